"""An anatomical prior: where in the image a label usually is, for images that are all taken alike (a chest X-ray).

Whether they are is measured. The images have to be of one size in millimetres, and an atlas of all other cases, taken
as the answer for a case, has to agree with the case's own label map: the mean of that Dice is what the place in the
image alone is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnlite.data.labels import Labels
from nnlite.data.records import record
from nnlite.errors import PlanError
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.spacing import coarsest_axis_first, flat_axes, target_spacing

PriorUse = Literal["channel", "product"]

ATLAS_VOXELS = 64  # along an axis at most: frequencies over cases are smooth
SKETCH_VOXELS = 32  # along an axis at most, of the label maps that alignment is measured on
SAME_SIZE = 1.1  # largest extent over smallest, along each axis
ALIGNED_DICE = 0.5  # of an atlas of the other cases: below, a label is more often elsewhere than there


@record
class Prior:
    """How an atlas is used: as channels that the network sees, or multiplied with its probabilities.

    ``atlas_shape`` counts the atlas' voxels along the axes of the plan; it covers the whole image.
    """

    use: PriorUse
    atlas_shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        if min(self.atlas_shape) < 1:
            raise PlanError(f"plan: prior.atlas_shape {self.atlas_shape} must hold positive numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A case as alignment sees it: extents (z, y, x) in mm, and the label map on a coarse grid (values, as stored)."""

    size_mm: tuple[float, ...]
    labels: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How alike images lie: the largest extent over the smallest, and the mean Dice of an atlas of the other cases."""

    size_ratio: float
    atlas_dice: float

    @property
    def aligned(self) -> bool:
        """Whether a place in the image tells enough of what is there."""
        return self.size_ratio <= SAME_SIZE and self.atlas_dice >= ALIGNED_DICE

    def in_words(self) -> str:
        """Both numbers, and what they are compared with."""
        return (
            f"extents differ by up to a factor of {self.size_ratio:.2f} (aligned: {SAME_SIZE:g}), and an atlas of the "
            f"other cases alone reaches a mean Dice of {self.atlas_dice:.2f} (aligned: {ALIGNED_DICE:g})"
        )


def sketch(label: np.ndarray, spacing_mm: Sequence[float]) -> Sketch:
    """A label map (z, y, x) on a grid of at most 32 voxels along each axis: the nearest voxel of each place.

    >>> sketch(np.arange(64).reshape(1, 1, 64), (1.0, 1.0, 0.5)).labels.ravel()[:3]
    array([1, 3, 5])
    """
    picks = [_nearest(length, min(length, SKETCH_VOXELS)) for length in label.shape]
    size_mm = tuple(length * step for length, step in zip(label.shape, spacing_mm, strict=True))
    return Sketch(size_mm=size_mm, labels=label[np.ix_(*picks)].copy())


def alignment(sketches: Sequence[Sketch], labels: Labels) -> Alignment:
    """How alike the cases lie; with a single case nothing can be compared, and its Dice is 0.

    Voxels to be ignored neither vote nor are judged, nor are those of which no other case tells. Along an axis on which
    every image is a single voxel, extents are the thickness of a slice and tell nothing.
    """
    sizes = np.array([one.size_mm for one in sketches])
    deep = np.max([one.labels.shape for one in sketches], axis=0) > 1
    ratio = float((sizes.max(axis=0) / sizes.min(axis=0))[deep].max(initial=1.0))
    shape = np.min([one.labels.shape for one in sketches], axis=0)
    maps = np.stack([labels.to_indices(_resampled(one.labels, shape)) for one in sketches])
    told = np.ones(maps.shape, dtype=bool) if labels.ignore_index is None else maps != labels.ignore_index
    values = np.unique(maps[told])
    if len(maps) < 2 or len(values) < 2:
        return Alignment(size_ratio=ratio, atlas_dice=0.0)
    votes = np.stack([(maps == value).sum(axis=0) for value in values])
    scores = []
    for own, known in zip(maps, told, strict=True):
        others = np.stack([seen - (own == value) for value, seen in zip(values, votes, strict=True)])
        judged = known & others.any(axis=0)
        answer, truth = values[others.argmax(axis=0)][judged], own[judged]
        scores += [_dice(answer == value, truth == value) for value in np.unique(truth) if value != 0]
    return Alignment(size_ratio=ratio, atlas_dice=float(np.mean(scores)) if scores else 0.0)


def _resampled(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The nearest voxels on a grid that is no finer."""
    return labels[np.ix_(*(_nearest(length, count) for length, count in zip(labels.shape, shape, strict=True)))]


def _nearest(length: int, count: int) -> np.ndarray:
    """Which of ``length`` voxels lie at the middles of ``count`` equal parts of an axis."""
    return ((np.arange(count) + 0.5) * length / count).astype(int)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def plan_prior(use: PriorUse, fingerprint: Fingerprint) -> Prior:
    """The prior for the images of a fingerprint, with an atlas no finer than they are."""
    transpose = coarsest_axis_first(target_spacing(fingerprint)[0], flat_axes(fingerprint))
    median = np.median(np.array(fingerprint.shapes_after_crop), axis=0)
    z, y, x = (min(ATLAS_VOXELS, max(1, round(float(median[axis])))) for axis in transpose)
    return Prior(use=use, atlas_shape=(z, y, x))

"""Repair a finished mask by rules that were chosen on cross-validation: the last step before it is written.

Rules are data, so that a selection can be read, moved and checked; what each of them does stands here. Keeping the
largest component of all foreground, then of single labels, follows nnU-Net (Isensee et al., Nature Methods 18, 203-211,
2021); minimum size and hole filling are nnlite's. Each label is worked on within the box that it occupies.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from nnlite.data.labels import Labels
from nnlite.data.records import record
from nnlite.inference.crf import CrfParameters

Operation = Literal["keep_largest", "minimum_size", "fill_holes"]

SizeUnit = Literal["ml", "voxels"]

Ties = Literal["first", "all"]

Box = tuple[slice, ...]


@record
class Rule:
    """One operation on one label, or on all foreground taken together where ``label`` is None.

    keep_largest    all components but the largest become background; of ``ties``, equally large ones, the first in
                    z, y, x order stays, or all of them, as in nnU-Net
    minimum_size    components below ``minimum_size`` become background
    fill_holes      background that the label encloses becomes the label; other labels inside of it stay

    Voxels are connected by faces, edges or corners (26 neighbours, 8 in an image of one slice), background by faces.
    ``minimum_size`` counts millilitres, or voxels for 2D images, which have no depth.
    """

    operation: Operation
    label: str | None = None
    minimum_size: float | None = None
    unit: SizeUnit = "ml"
    ties: Ties = "first"

    def __post_init__(self) -> None:
        if (self.operation == "minimum_size") != (self.minimum_size is not None):
            raise ValueError(
                f"{self.operation} with a minimum size of {self.minimum_size}: only minimum_size needs one"
            )
        if self.operation != "keep_largest" and self.ties != "first":
            raise ValueError(f"{self.operation} knows no ties; only keep_largest does")
        if self.label is None and self.operation != "keep_largest":
            raise ValueError(f"{self.operation} needs a label: it works on one at a time")

    def in_words(self) -> str:
        """The rule for people.

        >>> Rule(operation="minimum_size", label="lesion", minimum_size=0.25).in_words()
        'lesion: without components below 0.25 ml'
        """
        what = {
            "keep_largest": "only the largest component",
            "minimum_size": f"without components below {self.minimum_size or 0:.3g} {self.unit}",
            "fill_holes": "holes filled",
        }[self.operation]
        return f"{self.label or 'all foreground'}: {what}"


@record
class Postprocessing:
    """Rules in the order in which they are applied; before them, where there is one, a dense CRF (``crf.py``).

    A CRF needs image and probabilities, so it is not ``apply`` that applies it.
    """

    rules: tuple[Rule, ...] = ()
    crf: CrfParameters | None = None

    def in_words(self) -> tuple[str, ...]:
        """Everything that is done to a mask, for people."""
        return (*([] if self.crf is None else [self.crf.in_words()]), *(rule.in_words() for rule in self.rules))


def apply(indices: np.ndarray, postprocessing: Postprocessing, labels: Labels, *, voxel_ml: float) -> np.ndarray:
    """Label indices (z, y, x) after all rules; ``indices`` itself is left as it is.

    ``voxel_ml`` is the volume of a voxel. ``ValueError`` for a label that is not in the table.

    >>> specks = np.array([[[1, 1, 0, 1]]], dtype=np.uint8)
    >>> rules = Postprocessing(rules=(Rule(operation="keep_largest"),))
    >>> apply(specks, rules, Labels(names=("background", "nodule"), values=(0, 1)), voxel_ml=0.001)
    array([[[1, 1, 0, 0]]], dtype=uint8)
    """
    result = indices.copy() if postprocessing.rules else indices
    for rule in postprocessing.rules:
        if rule.label is not None and rule.label not in labels.foreground:
            raise ValueError(f"there is no label {rule.label} to postprocess; there are {', '.join(labels.foreground)}")
        index = None if rule.label is None else labels.names.index(rule.label)
        if rule.operation == "fill_holes" and index is not None:
            fill_holes(result, index)
        else:
            part = result[_box(result, index)]
            mask = part != 0 if index is None else part == index
            part[mask & ~_kept(mask, rule, voxel_size(voxel_ml, rule.unit))] = 0
    return result


def voxel_size(voxel_ml: float, unit: SizeUnit) -> float:
    """Size of one voxel in the unit of a minimum size."""
    return voxel_ml if unit == "ml" else 1.0


def fill_holes(indices: np.ndarray, index: int) -> tuple[Box, np.ndarray]:
    """Give a label (z, y, x) the background that it encloses, in place; returns the box it lies in, and what is new.

    Background is enclosed where no path by faces leads out of the box; along an axis of one voxel there is no way out.

    >>> ring = np.array([[[1, 1, 1], [1, 0, 1], [1, 1, 1]]])
    >>> _, new = fill_holes(ring, 1)
    >>> int(new.sum()), ring[0, 1].tolist()
    (1, [1, 1, 1])
    """
    box = _box(indices, index)
    part = indices[box]
    regions, count = ndimage.label(part != index)
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis, size in enumerate(indices.shape):
        if size > 1 and part.size:
            for face in (0, -1):
                enclosed[np.unique(regions.take(face, axis=axis))] = False
    new = enclosed[regions] & (part == 0)
    part[new] = index
    return box, new


def _box(indices: np.ndarray, index: int | None) -> Box:
    """The smallest box around a label, or around all foreground; an empty one where there is none."""
    mask = indices != 0 if index is None else indices == index
    [box] = ndimage.find_objects(mask.view(np.uint8), max_label=1)
    return box or (slice(0, 0),) * indices.ndim


def _kept(mask: np.ndarray, rule: Rule, size_of_voxel: float) -> np.ndarray:
    """The voxels of those components of ``mask`` that a rule keeps."""
    components, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    voxels = np.bincount(components.reshape(-1), minlength=count + 1)
    voxels[0] = 0
    if rule.ties == "all":
        kept = voxels == voxels.max()
    elif rule.minimum_size is None:
        kept = np.arange(count + 1) == np.argmax(voxels)
    else:
        kept = voxels * size_of_voxel >= rule.minimum_size
        kept[0] = False
    return kept[components]

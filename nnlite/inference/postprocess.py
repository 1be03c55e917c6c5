"""Repair a finished mask by rules that were chosen on cross-validation: the last step before it is written.

Rules are data, so that a selection can be read, moved and checked; what each of them does stands here. Keeping the
largest component of all foreground, then of single labels, follows nnU-Net (Isensee et al., Nature Methods 18, 203-211,
2021); minimum size and hole filling are nnlite's. Each label is worked on within the box that it occupies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from nnlite.data.labels import Labels
from nnlite.data.records import record

Operation = Literal["keep_largest", "minimum_size", "fill_holes"]

SizeUnit = Literal["ml", "voxels"]

Box = tuple[slice, ...]


@record
class Rule:
    """One operation on one label, or on all foreground taken together where ``label`` is None.

    keep_largest    all components but the largest become background; of equal ones the first in z, y, x order stays
    minimum_size    components below ``minimum_size`` become background
    fill_holes      background that the label encloses becomes the label; other labels inside of it stay

    Voxels are connected by faces, edges or corners (26 neighbours, 8 in an image of one slice), background by faces.
    ``minimum_size`` counts millilitres, or voxels for 2D images, which have no depth.
    """

    operation: Operation
    label: str | None = None
    minimum_size: float | None = None
    unit: SizeUnit = "ml"

    def __post_init__(self) -> None:
        if (self.operation == "minimum_size") != (self.minimum_size is not None):
            raise ValueError(
                f"{self.operation} with a minimum size of {self.minimum_size}: only minimum_size needs one"
            )
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
    """Rules in the order in which they are applied."""

    rules: tuple[Rule, ...] = ()


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
        if (box := _box(result, index)) is None:
            continue
        part = result[box]
        if rule.operation == "fill_holes":
            assert index is not None, "a rule that fills holes has a label"
            open_axes = [axis for axis, size in enumerate(indices.shape) if size > 1]
            part[holes(part == index, open_axes) & (part == 0)] = index
        else:
            mask = part != 0 if index is None else part == index
            part[mask & ~_kept(mask, rule, voxel_size(voxel_ml, rule.unit))] = 0
    return result


def voxel_size(voxel_ml: float, unit: SizeUnit) -> float:
    """Size of one voxel in the unit of a minimum size."""
    return voxel_ml if unit == "ml" else 1.0


def holes(mask: np.ndarray, axes: Sequence[int] = (0, 1, 2)) -> np.ndarray:
    """Background (z, y, x) from which no path by faces leads out of the array along any of ``axes``.

    >>> ring = np.array([[[1, 1, 1], [1, 0, 1], [1, 1, 1]]], dtype=bool)
    >>> bool(holes(ring, axes=(1, 2)).any()), bool(holes(ring).any())  # a volume is open above and below
    (True, False)
    """
    regions, count = ndimage.label(~mask)
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis in axes:
        for face in (0, -1):
            enclosed[np.unique(regions.take(face, axis=axis))] = False
    return enclosed[regions]


def _box(indices: np.ndarray, index: int | None) -> Box | None:
    """The smallest box around a label, or around all foreground; None where there is none."""
    mask = indices != 0 if index is None else indices == index
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not used.size:
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def _kept(mask: np.ndarray, rule: Rule, size_of_voxel: float) -> np.ndarray:
    """The voxels of those components of ``mask`` that a rule keeps."""
    components, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    voxels = np.bincount(components.reshape(-1), minlength=count + 1)
    voxels[0] = 0
    if rule.minimum_size is None:
        kept = np.arange(count + 1) == np.argmax(voxels)
    else:
        kept = voxels * size_of_voxel >= rule.minimum_size
        kept[0] = False
    return kept[components]

"""Along which axes images are mirrored, and what a mirror does to left and right.

nnU-Net mirrors along all axes and leaves labels as they are (Isensee et al., Nature Methods 18, 203-211, 2021): a
network that is to tell left from right is then shown as many mirrored images in which left is right. Here structures
that are each other's mirror image are exchanged. Where one has none, images are not mirrored left to right at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nnlite.data.labels import Labels
from nnlite.planning.configurations import Configuration

if TYPE_CHECKING:
    from nnlite.planning.planner import Plan

LEFT_RIGHT = 2  # canonical axes are z, y, x, and x leads to the left
LISTED_NAMES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What changes in a mirrored image, besides its voxels' places.

    ``axis`` of the patch runs from right to left (or back). ``indices`` has for each label index the one that stands
    for it in a mirrored image; ``channels`` are pairs of a network's channels that change places. ``previous`` is what
    ``indices`` is, for the mask of an earlier stage that a cascade's input ends with; None where there is none.
    """

    axis: int
    indices: tuple[int, ...]
    channels: tuple[tuple[int, int], ...]
    previous: tuple[int, ...] | None = None

    def of_channels(self, values: np.ndarray) -> np.ndarray:
        """Values (channels, ...) of a network's channels as they are in a mirrored image.

        >>> Exchange(axis=2, indices=(0, 2, 1), channels=((1, 2),)).of_channels(np.array([7, 8, 9])).tolist()
        [7, 9, 8]
        """
        order = list(range(len(values)))
        for one, other in self.channels:
            order[one], order[other] = other, one
        return values[order]


def exchange(plan: Plan, configuration: Configuration) -> Exchange | None:
    """What a mirror along left and right exchanges; None if nothing, or if patches have no such axis."""
    axis = left_right_axis(plan.transpose, configuration.topology.ndim)
    if axis is None or not plan.labels.mirrored:
        return None
    return Exchange(
        axis=axis,
        indices=plan.labels.mirror_images,
        channels=plan.labels.mirror_channels,
        previous=None if configuration.previous_stage is None else plan.labels.mask_mirror_images,
    )


def left_right_axis(transpose: Sequence[int], ndim: int) -> int | None:
    """The axis of a patch of ``ndim`` axes that leads from right to left; None for slices across it.

    >>> left_right_axis((2, 0, 1), 3), left_right_axis((0, 1, 2), 2), left_right_axis((2, 0, 1), 2)
    (0, 1, None)
    """
    axis = list(transpose).index(LEFT_RIGHT) - (3 - ndim)
    return axis if axis >= 0 else None


def decide_mirroring(configuration: Configuration, labels: Labels, transpose: Sequence[int]) -> Configuration:
    """The configuration with the axes to mirror: all, but not left to right where that would corrupt a label.

    Axes that were chosen before stay.
    """
    if configuration.mirror_axes is not None:
        return configuration
    axis = left_right_axis(transpose, configuration.topology.ndim)
    axes: tuple[int, ...] | None = None
    if axis is None:
        reason = "all: slices lie across x, so that no mirror changes left and right"
    elif labels.one_sided:
        axes = tuple(other for other in configuration.mirrored_axes if other != axis)
        reason = f"not left to right (axis x): {without_counterpart(labels)}"
    elif labels.mirrored:
        pairs = _listed([f"{one} and {other}" for one, other in labels.mirrored])
        reason = f"all: where an image is mirrored left to right, {pairs} change places"
    else:
        reason = "all: no label is told from another by its side"
    return replace(configuration, mirror_axes=axes, reasons={**configuration.reasons, "mirror_axes": reason})


def without_sides(configuration: Configuration, labels: Labels, transpose: Sequence[int]) -> Configuration:
    """The configuration for use with an atlas: not mirrored left to right where labels tell the sides apart.

    In a mirrored image they change places, and in the atlas, which is mirrored with it, they would not.
    """
    axis = left_right_axis(transpose, configuration.topology.ndim)
    if axis is None or not labels.mirrored:
        return configuration
    axes = tuple(other for other in configuration.mirrored_axes if other != axis)
    reason = "not left to right (axis x): an atlas knows on which side a label is"
    return replace(configuration, mirror_axes=axes, reasons={**configuration.reasons, "mirror_axes": reason})


def spares_sides(configuration: Configuration, transpose: Sequence[int]) -> bool:
    """Whether images are not mirrored left to right, though patches have that axis."""
    axis = left_right_axis(transpose, configuration.topology.ndim)
    return axis is not None and axis not in configuration.mirrored_axes


def without_counterpart(labels: Labels) -> str:
    """Why images are not mirrored left to right, and what can be done about it."""
    names = labels.one_sided
    return (
        f"{_listed(names)} {'is' if len(names) == 1 else 'are'} on one side, and without a mirror image among the "
        'labels; if there is one, name the pair under "mirrored" in nnlite.json'
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:LISTED_NAMES], *([".."] if len(names) > LISTED_NAMES else [])])

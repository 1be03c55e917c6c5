"""The patch a network is trained on: where its size starts, and how it gives way when it is too large.

Numbers in, numbers out; what "too large" means is decided by ``gpu.py``, ``cpu.py`` and ``nnunet.py``. The rules are
those of nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021). Tuples are ordered like the array: (z, y, x), or
(y, x).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from nnlite.errors import PlanError
from nnlite.planning.network import choice_of
from nnlite.planning.spacing import millimetres, voxels
from nnlite.planning.topology import ISOTROPY_RATIO, LONE_AXIS_EDGES, SMALLEST_EDGE, Topology

FIRST_EDGE = {2: 2048, 3: 256}  # the first patch has as many voxels as a square or cube of this edge: more than fits
SMALLEST_BATCH = 2  # a single sample gives too noisy a gradient
LONGEST_PADDING = 1.2  # patch / median image: padding to the network's divisor beyond this computes mostly nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchFit:
    """What was chosen for one configuration; ``reasons`` tells why, by the name of the field.

    ``iterations`` is the number of training steps in each of ``epochs``.
    """

    patch_size: tuple[int, ...]
    batch_size: int
    topology: Topology
    epochs: int
    iterations: int
    reasons: Mapping[str, str]


class Fit(Protocol):
    """What a device can train at a resolution."""

    def __call__(
        self, spacing_mm: Sequence[float], median_shape: Sequence[float], dataset_voxels: float, *, channels: int
    ) -> PatchFit:
        """``channels`` counts all that the network sees: in a cascade also the labels of the stage before."""


def first_patch(spacing_mm: Sequence[float], median_shape: Sequence[float]) -> tuple[int, ...]:
    """The patch to start from: equally long in mm along all axes, but nowhere longer than the median image.

    >>> first_patch((4.0, 1.0, 1.0), (60, 512, 512))
    (60, 406, 406)
    """
    finest = min(spacing_mm)
    extent = [finest / step for step in spacing_mm]
    ndim = len(extent)
    scale = (FIRST_EDGE[ndim] ** ndim / math.prod(extent)) ** (1 / ndim)
    return tuple(
        max(1, min(round(length * scale), int(size))) for length, size in zip(extent, median_shape, strict=True)
    )


def shrink(patch_size: Sequence[int], topology: Topology, axis: int, spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Shorten the patch along one axis by one step of what its network is divisible by; PlanError at its end.

    The step is taken at the size it leads to, where the network may pool less often: the patch loses as little as can
    be.

    >>> from nnlite.planning.topology import plan_topology
    >>> topology, patch = plan_topology((1.0, 1.0), (64, 64))
    >>> topology.divisor, shrink(patch, topology, 1, (1.0, 1.0))  # 64 - 16 would pool once less, so only 8 come off
    ((16, 16), (64, 56))
    """
    size = list(patch_size)
    size[axis] = max(1, size[axis] - topology.divisor[axis])
    plan = partial(choice_of(topology).topology, spacing_mm)
    size[axis] = patch_size[axis] - plan(size)[0].divisor[axis]
    while size[axis] >= 1 and plan(size)[1][axis] >= patch_size[axis]:  # without padding, sizes have grids of their own
        size[axis] -= 1
    if size[axis] < 1:
        raise PlanError(
            f"no patch is small enough: {voxels(patch_size)} voxels still need more than there is; allow more memory"
        )
    return tuple(size)


def longest_axis(patch_size: Sequence[int], median_shape: Sequence[float], *, spared_edge: int = 1) -> int:
    """The axis along which the patch covers the largest part of the median image; the last of them if they tie.

    Axes of ``spared_edge`` voxels or fewer are named only if there are no others: a single voxel cannot give way.
    """
    covered = [size / whole for size, whole in zip(patch_size, median_shape, strict=True)]
    return max(range(len(covered)), key=lambda axis: (patch_size[axis] > spared_edge, covered[axis], axis))


def padded_axes(patch_size: Sequence[int], median_shape: Sequence[float]) -> list[int]:
    """Axes along which the patch is much longer than the median image, only because the network must divide it.

    >>> padded_axes((80, 640), (68.0, 513.0))
    [1]
    """
    sizes = zip(patch_size, median_shape, strict=True)
    return [axis for axis, (size, whole) in enumerate(sizes) if size > LONGEST_PADDING * whole]


def require_pooling(topology: Topology, patch_size: Sequence[int], spacing_mm: Sequence[float]) -> None:
    """PlanError if nothing is left to pool: a U-Net of one resolution is none."""
    if topology.stages < 2:
        raise PlanError(
            f"patches of {voxels(patch_size)} voxels at {millimetres(spacing_mm)} are too small for a U-Net: its "
            f"finest axis needs {LONE_AXIS_EDGES * SMALLEST_EDGE} voxels, or {2 * SMALLEST_EDGE} if another is about "
            "as fine; check the spacing in the files' headers, or upsample the images"
        )


def patch_reason(patch_size: Sequence[int], first: Sequence[int], median_shape: Sequence[float], steps: int) -> str:
    """How the patch came from the first one, in words."""
    shortened = f"shortened {steps} {'time' if steps == 1 else 'times'}" if steps else "never shortened"
    return (
        f"{voxels(patch_size)}: from {voxels(first)} (equally long in mm along all axes, at most the median image of "
        f"{voxels(median_shape)}), padded to what the network divides by, {shortened}"
    )


def pooling_reason(topology: Topology) -> str:
    """Why the network has as many stages as it has, in words."""
    seen = (
        f"; without padding it sees {voxels(topology.margin)} more on either side than it answers for"
        if any(topology.margin)
        else ""
    )
    flat = sum(min(kernel) == 1 for kernel in topology.kernels)
    kernels = f"; kernels are flat in the first {flat} because voxels are still thick there" if flat else ""
    return (
        f"{topology.stages} stages: the patch is halved along an axis while it has {2 * SMALLEST_EDGE} voxels or more "
        f"there and its spacing is within a factor of {ISOTROPY_RATIO} of the finest; sizes must be divisible by "
        f"{voxels(topology.divisor)}{kernels}{seen}; {topology.features[0]} to {topology.features[-1]} features"
    )

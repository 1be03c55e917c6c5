"""Turn a patch into the shape of its U-Net, of any architecture of the family.

Plain numbers in and out, usable outside nnlite. Pooling and kernel rules are those of nnU-Net (Isensee et al., Nature
Methods 18, 203-211, 2021); how deep a stage is by default tell the modules of ``planning/architectures``. Tuples are
ordered like the array: (z, y, x), or (y, x) for slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from nnlite.data.records import record
from nnlite.errors import PlanError
from nnlite.planning.architectures import ARCHITECTURES

Architecture = Literal["unet", "resenc", "vnet", "unet++", "attention-unet", "unet-2015"]

SMALLEST_EDGE = 4  # voxels a pooled axis must keep: a smaller bottleneck has no context left to look at
LONE_AXIS_EDGES = 3  # an axis pooled all alone must be this many smallest edges long
ISOTROPY_RATIO = 2  # spacings closer than this count as equal: axes are pooled and convolved together
MAX_FEATURES = {2: 512, 3: 320}  # by number of axes: more costs memory and gains nothing
MOST_BLOCKS = 1000  # in all stages; a plan that asks for more is damaged, and would take minutes to be turned down
LARGEST_NUMBER = 2**16  # of a feature, a stride or a kernel: likewise


@record
class Topology:
    """The shape of a U-Net: one entry per stage, full resolution first; ``decoder_convolutions`` has one fewer.

    ``encoder_blocks`` counts convolutions, or in "resenc" blocks of two convolutions. With ``checkpointing`` training
    computes the inside of each stage twice instead of keeping it.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]
    architecture: Architecture
    encoder_blocks: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    checkpointing: bool = False

    def __post_init__(self) -> None:
        stages = len(self.strides)
        if stages == 0:
            raise PlanError("topology.strides is empty: a network needs at least one stage")
        lengths = {
            "kernels": (len(self.kernels), stages),
            "features": (len(self.features), stages),
            "encoder_blocks": (len(self.encoder_blocks), stages),
            "decoder_convolutions": (len(self.decoder_convolutions), stages - 1),
        }
        for key, (length, needed) in lengths.items():
            if length != needed:
                raise PlanError(f"topology.{key} has {length} entries, but {stages} strides ask for {needed}")
        for key, numbers in (
            ("strides", [s for stride in self.strides for s in stride]),
            ("kernels", [k for kernel in self.kernels for k in kernel]),
            ("features", self.features),
            ("encoder_blocks", self.encoder_blocks),
            ("decoder_convolutions", self.decoder_convolutions),
        ):
            if min(numbers, default=1) < 1:
                raise PlanError(f"topology.{key} must hold positive numbers, not {min(numbers)}")
            if max(numbers, default=1) > LARGEST_NUMBER:
                raise PlanError(f"topology.{key} must hold numbers up to {LARGEST_NUMBER}, not {max(numbers)}")
        if (blocks := sum(self.encoder_blocks) + sum(self.decoder_convolutions)) > MOST_BLOCKS:
            raise PlanError(f"topology has {blocks} blocks and convolutions; {MOST_BLOCKS} is the most")
        if any(step != 1 for step in self.strides[0]) or any(k % 2 == 0 for kernel in self.kernels for k in kernel):
            raise PlanError("topology.strides must begin with ones (full resolution), and topology.kernels must be odd")
        if any(len(axes) != self.ndim for axes in (*self.strides, *self.kernels)):
            raise PlanError("topology.strides and topology.kernels need one number per axis in every stage")

    @property
    def stages(self) -> int:
        """Number of resolutions, the bottleneck included."""
        return len(self.strides)

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return len(self.strides[0])

    @property
    def divisor(self) -> tuple[int, ...]:
        """Per axis, what a patch's size must be divisible by."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def plan_topology(
    spacing_mm: Sequence[float],
    patch_size: Sequence[int],
    *,
    architecture: Architecture = "unet",
    base_features: int = 32,
    max_features: int | None = None,
) -> tuple[Topology, tuple[int, ...]]:
    """The U-Net for a patch, and the patch padded to the multiple that the U-Net's pooling asks for.

    ``max_features`` of None means 512 in 2D and 320 in 3D. ValueError unless spacing and patch have both 2 or 3 axes.

    >>> topology, patch = plan_topology((1.0, 1.0, 1.0), (36, 50, 35))
    >>> topology.stages, topology.divisor, patch
    (4, (8, 8, 8), (40, 56, 40))
    """
    if len(spacing_mm) != len(patch_size) or len(patch_size) not in MAX_FEATURES:
        raise ValueError(f"spacing {tuple(spacing_mm)} and patch {tuple(patch_size)} need 2 or 3 axes, both the same")
    strides, kernels = _pool(spacing_mm, patch_size)
    stages = len(strides)
    widest = MAX_FEATURES[len(patch_size)] if max_features is None else max_features
    described = ARCHITECTURES[architecture]
    topology = Topology(
        strides=strides,
        kernels=kernels,
        features=tuple(min(widest, base_features * 2**stage) for stage in range(stages)),
        architecture=architecture,
        encoder_blocks=_repeating(described.encoder_blocks, stages),
        decoder_convolutions=_repeating(described.decoder_convolutions, stages - 1),
    )
    padded = tuple(math.ceil(size / step) * step for size, step in zip(patch_size, topology.divisor, strict=True))
    return topology, padded


def _repeating(numbers: Sequence[int], stages: int) -> tuple[int, ...]:
    """One number per stage; deeper stages repeat the last."""
    return tuple(numbers[min(stage, len(numbers) - 1)] for stage in range(stages))


def _pool(
    spacing_mm: Sequence[float], patch_size: Sequence[int]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Strides and kernels per stage: halve the finest axes until nothing is left to halve."""
    ndim = len(spacing_mm)
    spacing, size, kernel = list(spacing_mm), list(patch_size), [1] * ndim
    strides, kernels = [(1,) * ndim], []
    while pooled := _axes_to_pool(spacing, size):
        # A kernel stays flat across slices until in-plane pooling has made the voxels nearly isotropic.
        finest = min(spacing)
        kernel = [3 if k == 3 or s / finest < ISOTROPY_RATIO else 1 for k, s in zip(kernel, spacing, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in pooled else 1 for axis in range(ndim)))
        for axis in pooled:
            spacing[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
    return tuple(strides), (*kernels, (3,) * ndim)


def _axes_to_pool(spacing: Sequence[float], size: Sequence[int]) -> list[int]:
    """Axes long enough to be halved whose spacing is near that of the finest of them."""
    long_enough = [axis for axis, length in enumerate(size) if length >= 2 * SMALLEST_EDGE]
    if not long_enough:
        return []
    finest = min(spacing[axis] for axis in long_enough)
    axes = [axis for axis in long_enough if spacing[axis] / finest < ISOTROPY_RATIO]
    if len(axes) == 1 and size[axes[0]] < LONE_AXIS_EDGES * SMALLEST_EDGE:
        return []
    return axes

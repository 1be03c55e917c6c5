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
from nnlite.planning.architectures.encoder import STEM_KERNELS
from nnlite.planning.architectures.unet_2015 import fitting, margin

Architecture = Literal["unet", "resenc", "vnet", "unet++", "attention-unet", "unet-2015"]
Stem = Literal["plain", "multi-scale"]

SMALLEST_EDGE = 4  # voxels a pooled axis must keep: a smaller bottleneck has no context left to look at
LONE_AXIS_EDGES = 3  # an axis pooled all alone must be this many smallest edges long
KERNEL = 3  # voxels that a convolution looks at along an axis, unless another width is asked for
ISOTROPY_RATIO = 2  # spacings closer than this count as equal: axes are pooled and convolved together
MOST_BLOCKS = 1000  # in all stages; a plan that asks for more is damaged, and would take minutes to be turned down
LARGEST_NUMBER = 2**16  # of a feature, a stride or a kernel: likewise


@record
class Topology:
    """The shape of a U-Net: one entry per stage, full resolution first; ``decoder_convolutions`` has one fewer.

    ``encoder_blocks`` counts convolutions, or in "resenc" blocks of two convolutions. With ``checkpointing`` training
    computes the inside of each stage twice instead of keeping it. ``encoders`` are the channels that each of several
    encoders sees; where there are none, a single one sees all.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]
    architecture: Architecture
    encoder_blocks: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    checkpointing: bool = False
    encoders: tuple[int, ...] = ()
    stem: Stem = "plain"

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
        self._check_input()

    def _check_input(self) -> None:
        """Raise ``PlanError`` unless the architecture can have these encoders and this stem."""
        if len(self.encoders) == 1 or min(self.encoders, default=1) < 1:
            raise PlanError(
                f"topology.encoders {self.encoders} must be empty, or two or more numbers of channels, each 1 or more"
            )
        if self.encoders or self.stem != "plain":
            require_several_inputs(self.architecture)
        if self.stem == "multi-scale" and self.features[0] < len(STEM_KERNELS):
            raise PlanError(
                f"a multi-scale stem shares out {len(STEM_KERNELS)} features or more, not {self.features[0]}"
            )

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
        """Per axis, the product of the strides: what a patch's size must be divisible by, if nothing is cut off."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    @property
    def margin(self) -> tuple[int, ...]:
        """Per axis, how many voxels on either side of a patch the network sees without an answer for them."""
        return (0,) * self.ndim if ARCHITECTURES[self.architecture].padded else margin(self)

    def seen_size(self, patch_size: Sequence[int]) -> tuple[int, ...]:
        """What the network is to see to answer for a patch."""
        return tuple(size + 2 * more for size, more in zip(patch_size, self.margin, strict=True))

    def fitting_size(self, patch_size: Sequence[int]) -> tuple[int, ...]:
        """The smallest size, at least that of a patch along each axis, that the network can answer for."""
        if not ARCHITECTURES[self.architecture].padded:
            return fitting(self, patch_size)
        return tuple(math.ceil(size / step) * step for size, step in zip(patch_size, self.divisor, strict=True))


def require_several_inputs(architecture: Architecture) -> None:
    """PlanError for an architecture that has one encoder and a first layer of its own."""
    if ARCHITECTURES[architecture].one_input:
        several = ", ".join(name for name, described in ARCHITECTURES.items() if not described.one_input)
        raise PlanError(
            f"{architecture} has one encoder and a first layer of its own; separate encoders (--fusion) and "
            f"multi-scale stems (--stem) are for {several}"
        )


def plan_topology(
    spacing_mm: Sequence[float],
    patch_size: Sequence[int],
    *,
    architecture: Architecture = "unet",
    kernel: int = KERNEL,
    checkpointing: bool = False,
    encoders: tuple[int, ...] = (),
    stem: Stem = "plain",
    base_features: int | None = None,
    max_features: int | None = None,
) -> tuple[Topology, tuple[int, ...]]:
    """The U-Net for a patch, and the patch padded to a size that the U-Net's pooling can divide.

    Features of None are the architecture's own; ``kernel`` takes the place of 3 voxels. ValueError unless spacing and
    patch have both 2 or 3 axes.

    >>> topology, patch = plan_topology((1.0, 1.0, 1.0), (36, 50, 35))
    >>> topology.stages, topology.divisor, patch
    (4, (8, 8, 8), (40, 56, 40))
    """
    ndim = len(patch_size)
    if len(spacing_mm) != ndim or ndim not in (2, 3):
        raise ValueError(f"spacing {tuple(spacing_mm)} and patch {tuple(patch_size)} need 2 or 3 axes, both the same")
    described = ARCHITECTURES[architecture]
    strides, kernels = _pool(spacing_mm, patch_size, described.most_stages.get(ndim))
    stages = len(strides)
    widest = described.max_features[ndim] if max_features is None else max_features
    narrowest = described.base_features[ndim] if base_features is None else base_features
    topology = Topology(
        strides=strides,
        kernels=tuple(tuple(kernel if size == KERNEL else size for size in axes) for axes in kernels),
        features=tuple(min(widest, narrowest * 2**stage) for stage in range(stages)),
        architecture=architecture,
        encoder_blocks=_repeating(described.encoder_blocks, stages),
        decoder_convolutions=_repeating(described.decoder_convolutions, stages - 1),
        checkpointing=checkpointing,
        encoders=encoders,
        stem=stem,
    )
    padded = topology.fitting_size(patch_size)
    if not described.padded and padded != tuple(patch_size):  # what is added may be enough to pool once more
        return plan_topology(
            spacing_mm,
            padded,
            architecture=architecture,
            kernel=kernel,
            checkpointing=checkpointing,
            encoders=encoders,
            stem=stem,
            base_features=base_features,
            max_features=max_features,
        )
    return topology, padded


def _repeating(numbers: Sequence[int], stages: int) -> tuple[int, ...]:
    """One number per stage; deeper stages repeat the last."""
    return tuple(numbers[min(stage, len(numbers) - 1)] for stage in range(stages))


def _pool(
    spacing_mm: Sequence[float], patch_size: Sequence[int], most_stages: int | None
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Strides and kernels per stage: halve the finest axes until nothing, or no stage, is left to halve."""
    ndim = len(spacing_mm)
    spacing, size, kernel = list(spacing_mm), list(patch_size), [1] * ndim
    strides, kernels = [(1,) * ndim], []
    while len(strides) != most_stages and (pooled := _axes_to_pool(spacing, size)):
        # A kernel stays flat across slices until in-plane pooling has made the voxels nearly isotropic.
        finest = min(spacing)
        kernel = [
            KERNEL if k == KERNEL or s / finest < ISOTROPY_RATIO else 1 for k, s in zip(kernel, spacing, strict=True)
        ]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in pooled else 1 for axis in range(ndim)))
        for axis in pooled:
            spacing[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
    return tuple(strides), (*kernels, (KERNEL,) * ndim)


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

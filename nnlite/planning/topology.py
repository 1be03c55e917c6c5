"""Turn a patch into the shape of its U-Net, and count what that U-Net computes, without building it.

Plain numbers in and out, usable outside nnlite. Pooling and kernel rules are those of nnU-Net (Isensee et al., Nature
Methods 18, 203-211, 2021), the residual encoder's depth that of its presets (Isensee et al., MICCAI 2024). Tuples are
ordered like the array: (z, y, x), or (y, x) for slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nnlite.data.records import record
from nnlite.errors import PlanError

Encoder = Literal["plain", "residual"]

SMALLEST_EDGE = 4  # voxels a pooled axis must keep: a smaller bottleneck has no context left to look at
LONE_AXIS_EDGES = 3  # an axis pooled all alone must be this many smallest edges long
ISOTROPY_RATIO = 2  # spacings closer than this count as equal: axes are pooled and convolved together
MAX_FEATURES = {2: 512, 3: 320}  # by number of axes: more costs memory and gains nothing
PLAIN_CONVOLUTIONS = 2  # per encoder and decoder stage
RESIDUAL_BLOCKS = (1, 3, 4, 6)  # per encoder stage; deeper stages repeat the last
RESIDUAL_DECODER_CONVOLUTIONS = 1
MOST_BLOCKS = 1000  # in all stages; a plan that asks for more is damaged, and would take minutes to be turned down
LARGEST_NUMBER = 2**16  # of a feature, a stride or a kernel: likewise


@record
class Topology:
    """The shape of a U-Net: one entry per stage, full resolution first; ``decoder_convolutions`` has one fewer.

    ``encoder_blocks`` counts convolutions in a plain encoder, and blocks of two convolutions in a residual one.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]
    encoder: Encoder
    encoder_blocks: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]

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

    @property
    def margin(self) -> tuple[int, ...]:
        """Per axis, how many voxels on either side of a patch the network sees without an answer for them."""
        return (0,) * self.ndim

    def seen_size(self, patch_size: Sequence[int]) -> tuple[int, ...]:
        """What the network is to see to answer for a patch."""
        return tuple(size + 2 * more for size, more in zip(patch_size, self.margin, strict=True))


def plan_topology(
    spacing_mm: Sequence[float],
    patch_size: Sequence[int],
    *,
    encoder: Encoder = "plain",
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
    if encoder == "plain":
        blocks, convolutions = (PLAIN_CONVOLUTIONS,) * stages, PLAIN_CONVOLUTIONS
    else:
        blocks = tuple(RESIDUAL_BLOCKS[min(stage, len(RESIDUAL_BLOCKS) - 1)] for stage in range(stages))
        convolutions = RESIDUAL_DECODER_CONVOLUTIONS
    topology = Topology(
        strides=strides,
        kernels=kernels,
        features=tuple(min(widest, base_features * 2**stage) for stage in range(stages)),
        encoder=encoder,
        encoder_blocks=blocks,
        decoder_convolutions=(convolutions,) * (stages - 1),
    )
    padded = tuple(math.ceil(size / step) * step for size, step in zip(patch_size, topology.divisor, strict=True))
    return topology, padded


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


@dataclass(frozen=True, slots=True)
class _Operation:
    """One operation of the forward pass; ``taps`` is the number of input voxels that one output value looks at."""

    inputs: int
    outputs: int
    taps: int
    voxels: int
    parameters: int
    in_estimate: bool = True  # whether nnU-Net's memory estimate counts its output


def _convolution(inputs: int, outputs: int, kernel: Sequence[int], voxels: int, *, bias: bool = True) -> _Operation:
    """A convolution and the instance normalisation (scale and shift) behind it."""
    taps = math.prod(kernel)
    return _Operation(inputs, outputs, taps, voxels, outputs * (inputs * taps + bias + 2))


def _operations(topology: Topology, patch_size: Sequence[int], channels: int, labels: int) -> Iterator[_Operation]:
    """Everything the U-Net computes for one patch, encoder first."""
    voxels, size = [], list(patch_size)
    for stride in topology.strides:
        size = [length // step for length, step in zip(size, stride, strict=True)]
        voxels.append(math.prod(size))
    inputs = channels
    if topology.encoder == "residual":
        yield _convolution(channels, topology.features[0], topology.kernels[0], voxels[0])
        inputs = topology.features[0]
    for stage, outputs in enumerate(topology.features):
        yield from _encoder_stage(topology, stage, inputs, voxels[stage])
        inputs = outputs
    for stage in range(topology.stages - 2, -1, -1):
        yield from _decoder_stage(topology, stage, voxels[stage], labels)


def _encoder_stage(topology: Topology, stage: int, inputs: int, voxels: int) -> Iterator[_Operation]:
    outputs, kernel, blocks = topology.features[stage], topology.kernels[stage], topology.encoder_blocks[stage]
    convolutions = 2 * blocks if topology.encoder == "residual" else blocks
    yield _convolution(inputs, outputs, kernel, voxels)
    for _ in range(convolutions - 1):
        yield _convolution(outputs, outputs, kernel, voxels)
    if topology.encoder == "residual":
        if inputs != outputs:
            yield _convolution(inputs, outputs, (1,), voxels, bias=False)
        elif (
            math.prod(topology.strides[stage]) > 1
        ):  # the skip is pooled only: memory, but nothing multiplied or learnt
            yield _Operation(inputs, outputs, 0, voxels, 0)


def _decoder_stage(topology: Topology, stage: int, voxels: int, labels: int) -> Iterator[_Operation]:
    below, here, kernel = topology.features[stage + 1], topology.features[stage], topology.kernels[stage]
    stride = math.prod(topology.strides[stage + 1])
    # Kernel and stride of the transposed convolution agree: each output voxel sees one input voxel.
    yield _Operation(below, here, 1, voxels, here * (below * stride + 1))
    for number in range(topology.decoder_convolutions[stage]):
        yield _convolution(2 * here if number == 0 else here, here, kernel, voxels)
    yield _Operation(here, labels, 1, voxels, labels * (here + 1), in_estimate=stage == 0)


def output_elements(topology: Topology, patch_size: Sequence[int], *, labels: int) -> int:
    """Values that all convolutions put out for one patch: nnU-Net's measure of the memory that training takes.

    ``labels`` counts the background. Heads of deep supervision do not count; pooled skips do.

    >>> topology, patch = plan_topology((1.0, 1.0), (8, 8))
    >>> output_elements(topology, patch, labels=2)  # 5 x 32 + 2 at 8 x 8, 2 x 64 at 4 x 4
    12416
    """
    return sum(op.outputs * op.voxels for op in _operations(topology, patch_size, 1, labels) if op.in_estimate)


def multiply_adds(topology: Topology, patch_size: Sequence[int], *, channels: int, labels: int) -> int:
    """Multiplications of one forward pass over one patch, in all convolutions and heads; a step costs about 3 x this.

    >>> topology, patch = plan_topology((1.0, 1.0), (4, 4), base_features=8)  # too small to pool: two convolutions
    >>> multiply_adds(topology, patch, channels=1, labels=2)  # 16 x 9 x (1 x 8 + 8 x 8)
    10368
    """
    return sum(
        op.inputs * op.outputs * op.taps * op.voxels for op in _operations(topology, patch_size, channels, labels)
    )


def parameter_count(topology: Topology, *, channels: int, labels: int) -> int:
    """Weights of the network that ``nnlite.networks`` builds, heads of deep supervision included.

    >>> topology, _ = plan_topology((1.0, 1.0), (4, 4), base_features=8)
    >>> parameter_count(topology, channels=1, labels=2)  # 8 x (9 + 1 + 2) + 8 x (8 x 9 + 1 + 2)
    696
    """
    return sum(op.parameters for op in _operations(topology, topology.divisor, channels, labels))

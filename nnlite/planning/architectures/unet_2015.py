"""Operations of the U-Net of 2015, as ``networks/unet_2015.py`` computes them, and what its missing padding takes off.

A convolution without padding answers for a voxel less on either side per step of its kernel, and max pooling wants
sizes that it can divide. So a patch, which is what the network answers for, has sizes of a grid of its own, and what
the network sees is larger by a margin that does not depend on the patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING

from nnlite.planning.operations import Map, Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology

CONVOLUTIONS = 2  # per stage, down and up
FEATURES = {2: 64, 3: 32}  # at full resolution, by number of axes: in 2D the paper's; the 3D paper begins with 32, too
MOST_FEATURES = {2: 1024, 3: 512}
MOST_STAGES = {2: 5, 3: 4}  # as in the papers: each further one would more than double the margin


def unet_2015(tape: Tape, topology: Topology) -> None:
    """Convolutions and max pooling down; upsample, put the middle of the encoder's maps beside, and convolve up."""
    x, skips = tape.image, []
    for stage in range(topology.stages):
        if stage > 0:
            x = tape.max_pool(x, topology.strides[stage])
        x = _convolutions(tape, topology, x, stage, topology.encoder_blocks[stage])
        skips.append(x)
    x = tape.dropout(x)
    for stage in range(topology.stages - 2, -1, -1):
        below, features = x, topology.features[stage]
        x = tape.transposed_convolution(below, features, topology.strides[stage + 1])
        x = tape.cat(tape.crop(skips[stage], x.size), x)
        x = _convolutions(tape, topology, x, stage, topology.decoder_convolutions[stage])
        tape.hold(below)
    tape.hold(*skips)
    tape.head(x)


def _convolutions(tape: Tape, topology: Topology, x: Map, stage: int, count: int) -> Map:
    with tape.stage():
        for _ in range(count):
            x = tape.activation(tape.convolution(x, topology.features[stage], topology.kernels[stage], padded=False))
    return x


def margin(topology: Topology) -> tuple[int, ...]:
    """Per axis, the voxels on either side that are seen without being answered for."""
    lost = [0] * topology.ndim
    for stage, steps in enumerate(_cumulative(topology.strides)):
        up = topology.decoder_convolutions[stage] if stage < topology.stages - 1 else 0
        for axis, kernel in enumerate(topology.kernels[stage]):
            lost[axis] += steps[axis] * (topology.encoder_blocks[stage] + up) * (kernel - 1) // 2
    return tuple(lost)


def fitting(topology: Topology, patch_size: Sequence[int]) -> tuple[int, ...]:
    """The smallest size, at least that of a patch, for which every max pooling gets what it can divide."""
    lost = [0] * topology.ndim  # on the way up, from a whole number of voxels of the bottleneck
    for stage, steps in enumerate(_cumulative(topology.strides[:-1])):
        for axis, kernel in enumerate(topology.kernels[stage]):
            lost[axis] += steps[axis] * topology.decoder_convolutions[stage] * (kernel - 1)
    sizes = zip(patch_size, lost, topology.divisor, strict=True)
    return tuple(-(-(size + less) // step) * step - less for size, less, step in sizes)


def _cumulative(strides: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """Voxels of full resolution that make a voxel of each stage, per axis; the first stage's strides are ones."""
    return accumulate(map(tuple, strides), lambda steps, stride: tuple(map(mul, steps, stride)))

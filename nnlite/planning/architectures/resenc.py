"""Operations of the U-Net with a residual encoder, as ``networks/resenc.py`` computes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnlite.planning.architectures.unet import decode
from nnlite.planning.operations import Map, Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology

ENCODER_BLOCKS = (1, 3, 4, 6)  # per stage, of two convolutions each; deeper stages repeat the last
DECODER_CONVOLUTIONS = 1


def resenc(tape: Tape, topology: Topology) -> None:
    """A stem, stages of residual blocks down, and the plain decoder."""
    with tape.stage():
        x = tape.block(tape.image, topology.features[0], topology.kernels[0])
    skips = []
    for stage, features in enumerate(topology.features):
        kernel, stride = topology.kernels[stage], topology.strides[stage]
        with tape.stage():
            x = residual_block(tape, x, features, kernel, stride)
            for _ in range(topology.encoder_blocks[stage] - 1):
                x = residual_block(tape, x, features, kernel, (1,) * topology.ndim)
        skips.append(x)
    decode(tape, topology, skips)


def residual_block(tape: Tape, x: Map, features: int, kernel: Sequence[int], stride: Sequence[int]) -> Map:
    """Two convolutions and a skip, added and activated: ``networks.blocks.ResidualBlock``."""
    y = tape.norm(tape.convolution(tape.block(x, features, kernel, stride), features, kernel))
    skip, projected = x, x.features != features
    if math.prod(stride) > 1:
        skip = tape.pool(skip, stride, counted=not projected)
    if projected:
        skip = tape.norm(tape.convolution(skip, features, (1,) * len(stride), bias=False))
    z = tape.activation(tape.add(y, skip))
    tape.hold(x, y, skip)
    return z

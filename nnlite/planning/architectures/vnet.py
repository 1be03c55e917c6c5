"""Operations of the V-Net, as ``networks/vnet.py`` computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnlite.planning.architectures.encoder import encode
from nnlite.planning.operations import Map, Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology

ENCODER_CONVOLUTIONS = (1, 2, 3)  # per stage; deeper stages repeat the last
DECODER_CONVOLUTIONS = (1, 2, 3)


def vnet(tape: Tape, topology: Topology) -> None:
    """Residual stages down, and up again over what both sides have."""
    skips = encode(tape, topology, encoder_stage)
    x = skips[-1]
    for stage in range(topology.stages - 2, -1, -1):
        below, features = x, topology.features[stage]
        with tape.stage():
            up = tape.prelu(tape.norm(tape.transposed_convolution(below, features, topology.strides[stage + 1])))
            x = tape.cat(up, skips[stage])
            x = residual_stage(tape, x, 2 * features, topology.kernels[stage], topology.decoder_convolutions[stage])
        tape.hold(below)
        tape.head(x)
    tape.hold(*skips)


def encoder_stage(tape: Tape, topology: Topology, stage: int, above: Map) -> Map:
    """A strided convolution to the stage's size and width, and the residual stage; the first has the image."""
    x, features, stride = above, topology.features[stage], topology.strides[stage]
    with tape.stage():
        if stage > 0:
            x = tape.prelu(tape.norm(tape.convolution(x, features, stride, stride)))
        x = residual_stage(tape, x, features, topology.kernels[stage], topology.encoder_blocks[stage])
    tape.hold(above)
    return x


def residual_stage(tape: Tape, x: Map, features: int, kernel: Sequence[int], count: int) -> Map:
    """Convolutions and what they started from, added and activated: ``networks.vnet.ResidualStage``."""
    y = x
    for number in range(count):
        y = tape.norm(tape.convolution(y, features, kernel))
        if number < count - 1:
            y = tape.prelu(y)
    skip = x if x.features == features else tape.convolution(x, features, (1,) * len(kernel), bias=False)
    added = tape.add(y, skip)
    tape.hold(x)
    z = tape.prelu(added)
    tape.hold(x)
    return z

"""Operations of the plain U-Net, as ``networks/unet.py`` computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nnlite.planning.architectures.encoder import encode
from nnlite.planning.operations import Map, Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology

ENCODER_CONVOLUTIONS = (2,)  # per stage
DECODER_CONVOLUTIONS = 2


def unet(tape: Tape, topology: Topology) -> None:
    """Stages of convolutions down, and up again beside them."""
    decode(tape, topology, encode(tape, topology, encoder_stage))


def encoder_stage(tape: Tape, topology: Topology, stage: int, x: Map) -> Map:
    """The convolutions of one resolution; the first of them reduces the one above."""
    features, kernel = topology.features[stage], topology.kernels[stage]
    with tape.stage():
        x = tape.block(x, features, kernel, topology.strides[stage])
        for _ in range(topology.encoder_blocks[stage] - 1):
            x = tape.block(x, features, kernel)
    return x


def decode(
    tape: Tape, topology: Topology, skips: list[Map], *, gated: Callable[[int, Map, Map], Map] | None = None
) -> None:
    """The decoder: upsample, put the encoder's maps beside, convolve; a head at every level.

    ``gated`` makes of a stage, its skip and the maps below what is put beside.
    """
    x = skips[-1]
    for stage in range(topology.stages - 2, -1, -1):
        below, features = x, topology.features[stage]
        with tape.stage():
            skip = skips[stage] if gated is None else gated(stage, skips[stage], below)
            x = tape.cat(tape.transposed_convolution(below, features, topology.strides[stage + 1]), skip)
            for _ in range(topology.decoder_convolutions[stage]):
                x = tape.block(x, features, topology.kernels[stage])
        tape.hold(below, skip)
        tape.head(x)
    tape.hold(*skips)

"""Operations of the plain U-Net, as ``networks/unet.py`` computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnlite.planning.operations import Map, Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology

ENCODER_CONVOLUTIONS = (2,)  # per stage
DECODER_CONVOLUTIONS = 2


def unet(tape: Tape, topology: Topology) -> None:
    """Stages of convolutions down, and up again beside them."""
    x, skips = tape.image, []
    for stage, features in enumerate(topology.features):
        kernel, stride = topology.kernels[stage], topology.strides[stage]
        with tape.stage():
            x = tape.block(x, features, kernel, stride)
            for _ in range(topology.encoder_blocks[stage] - 1):
                x = tape.block(x, features, kernel)
        skips.append(x)
    decode(tape, topology, skips)


def decode(tape: Tape, topology: Topology, skips: list[Map]) -> None:
    """The decoder: upsample, put the encoder's maps beside, convolve; a head at every level."""
    x = skips[-1]
    for stage in range(topology.stages - 2, -1, -1):
        below, features = x, topology.features[stage]
        with tape.stage():
            x = tape.cat(tape.transposed_convolution(below, features, topology.strides[stage + 1]), skips[stage])
            for _ in range(topology.decoder_convolutions[stage]):
                x = tape.block(x, features, topology.kernels[stage])
        tape.hold(below)
        tape.head(x)
    tape.hold(*skips)

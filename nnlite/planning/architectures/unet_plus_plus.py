"""Operations of U-Net++, as ``networks/unet_plus_plus.py`` computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnlite.planning.operations import Map, Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology

CONVOLUTIONS = 2  # per node


def unet_plus_plus(tape: Tape, topology: Topology) -> None:
    """Each stage of the encoder, and behind it all nodes that it makes possible; a head at every node of the top."""
    x = tape.image
    rows: list[list[Map]] = []
    for depth, features in enumerate(topology.features):
        kernel, stride = topology.kernels[depth], topology.strides[depth]
        with tape.stage():
            x = tape.block(x, features, kernel, stride)
            for _ in range(topology.encoder_blocks[depth] - 1):
                x = tape.block(x, features, kernel)
        rows.append([x])
        for stage in reversed(range(depth)):
            with tape.stage():
                rows[stage].append(_node(tape, topology, stage, rows[stage], rows[stage + 1][-1]))
            if depth == topology.stages - 1:
                tape.hold(*rows.pop())
        if depth > 0:
            tape.head(rows[0][-1])
    tape.hold(*rows[0])


def _node(tape: Tape, topology: Topology, stage: int, row: list[Map], below: Map) -> Map:
    features = topology.features[stage]
    x = tape.cat(*row, tape.transposed_convolution(below, features, topology.strides[stage + 1]))
    for _ in range(topology.decoder_convolutions[stage]):
        x = tape.block(x, features, topology.kernels[stage])
    return x

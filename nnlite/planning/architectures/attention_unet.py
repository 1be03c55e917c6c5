"""Operations of the U-Net with attention gates, as ``networks/attention_unet.py`` computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnlite.planning.architectures.encoder import encode
from nnlite.planning.architectures.unet import decode, encoder_stage
from nnlite.planning.operations import Map, Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology


def attention_unet(tape: Tape, topology: Topology) -> None:
    """The plain U-Net whose skips, that of full resolution aside, pass a gate."""

    def gated(stage: int, skip: Map, below: Map) -> Map:
        return skip if stage == 0 else gate(tape, skip, below, topology.strides[stage + 1])

    decode(tape, topology, encode(tape, topology, encoder_stage), gated=gated)


def gate(tape: Tape, skip: Map, below: Map, stride: Sequence[int]) -> Map:
    """A skip, weighted by what the coarser scale says of it: ``networks.attention_unet.AttentionGate``."""
    ones = (1,) * len(stride)
    theta = tape.convolution(skip, skip.features, stride, stride, bias=False)
    added = tape.add(theta, tape.convolution(below, skip.features, ones))
    weights = tape.sigmoid(tape.convolution(tape.activation(added), 1, ones))
    resampled = tape.resample(weights, skip.size)
    tape.hold(added, weights)
    return tape.multiply(skip, resampled)

"""One file per architecture: what its torch module in ``nnlite/networks`` computes, and how deep it is by default."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nnlite.planning.architectures import attention_unet, resenc, unet, vnet
from nnlite.planning.operations import Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An architecture: its name in words, its blocks, and the function that writes its operations on a tape.

    ``encoder_blocks`` per stage, of which deeper stages repeat the last; ``decoder_convolutions`` likewise. Features at
    full resolution and at most are those of the device's plan.
    """

    name: str
    encoder_blocks: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    write: Callable[[Tape, Topology], None]


ARCHITECTURES: Mapping[str, Description] = {
    "unet": Description(
        name="U-Net with a plain encoder",
        encoder_blocks=unet.ENCODER_CONVOLUTIONS,
        decoder_convolutions=(unet.DECODER_CONVOLUTIONS,),
        write=unet.unet,
    ),
    "resenc": Description(
        name="U-Net with a residual encoder",
        encoder_blocks=resenc.ENCODER_BLOCKS,
        decoder_convolutions=(resenc.DECODER_CONVOLUTIONS,),
        write=resenc.resenc,
    ),
    "vnet": Description(
        name="V-Net",
        encoder_blocks=vnet.ENCODER_CONVOLUTIONS,
        decoder_convolutions=vnet.DECODER_CONVOLUTIONS,
        write=vnet.vnet,
    ),
    "attention-unet": Description(
        name="U-Net with attention gates",
        encoder_blocks=unet.ENCODER_CONVOLUTIONS,
        decoder_convolutions=(unet.DECODER_CONVOLUTIONS,),
        write=attention_unet.attention_unet,
    ),
}
"""By ``Topology.architecture``."""


def tape_of(topology: Topology, size: Sequence[int], *, channels: int, labels: int) -> tuple[Tape, int]:
    """All that the network of a topology computes for the smallest patch, and how many times as large ``size`` is.

    ``labels`` counts the background. Maps grow in proportion to the patch, weights do not grow.
    """
    smallest = topology.divisor
    return _tape(topology, smallest, channels, labels), math.prod(size) // math.prod(smallest)


@lru_cache(maxsize=64)  # a planner tries many patches, most of which lead to a few topologies
def _tape(topology: Topology, size: tuple[int, ...], channels: int, labels: int) -> Tape:
    tape = Tape(size, channels=channels, labels=labels, checkpointing=topology.checkpointing)
    ARCHITECTURES[topology.architecture].write(tape, topology)
    return tape

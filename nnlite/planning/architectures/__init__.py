"""One file per architecture: what its torch module in ``nnlite/networks`` computes, and how deep it is by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nnlite.planning.architectures import resenc, unet
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
}
"""By ``Topology.architecture``."""


@lru_cache(maxsize=16)  # a planner asks for one after the other, but for each of them several times
def tape_of(topology: Topology, size: tuple[int, ...], *, channels: int, labels: int) -> Tape:
    """All that the network of a topology computes for one sample; ``labels`` counts the background."""
    tape = Tape(size, channels=channels, labels=labels, checkpointing=topology.checkpointing)
    ARCHITECTURES[topology.architecture].write(tape, topology)
    return tape

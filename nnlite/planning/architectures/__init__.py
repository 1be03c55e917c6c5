"""One file per architecture: what its torch module in ``nnlite/networks`` computes, and how deep it is by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from nnlite.planning.architectures import attention_unet, resenc, unet, unet_2015, unet_plus_plus, vnet
from nnlite.planning.operations import Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology

# By number of axes.
BASE_FEATURES = {2: 32, 3: 32}  # at full resolution
MAX_FEATURES = {2: 512, 3: 320}  # more costs memory and gains nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An architecture: its name in words, its blocks, and the function that writes its operations on a tape.

    ``encoder_blocks`` per stage, of which deeper stages repeat the last; ``decoder_convolutions`` likewise. Features at
    full resolution (``base_features``) and at most (``max_features``) are by number of axes, and so are the most stages
    that it may have, where there is a limit. ``padded`` tells whether its convolutions keep the size of their input,
    ``one_input`` whether it has but one encoder, without a stem of another kind.
    """

    name: str
    encoder_blocks: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    write: Callable[[Tape, Topology], None]
    base_features: Mapping[int, int] = field(default_factory=lambda: BASE_FEATURES)
    max_features: Mapping[int, int] = field(default_factory=lambda: MAX_FEATURES)
    most_stages: Mapping[int, int] = field(default_factory=dict)
    padded: bool = True
    one_input: bool = False


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
    "unet++": Description(
        name="U-Net++ with nested skips",
        encoder_blocks=(unet_plus_plus.CONVOLUTIONS,),
        decoder_convolutions=(unet_plus_plus.CONVOLUTIONS,),
        write=unet_plus_plus.unet_plus_plus,
        one_input=True,
    ),
    "unet-2015": Description(
        name="U-Net of 2015 without padding",
        encoder_blocks=(unet_2015.CONVOLUTIONS,),
        decoder_convolutions=(unet_2015.CONVOLUTIONS,),
        write=unet_2015.unet_2015,
        base_features=unet_2015.FEATURES,
        max_features=unet_2015.MOST_FEATURES,
        most_stages=unet_2015.MOST_STAGES,
        padded=False,
        one_input=True,
    ),
}
"""By ``Topology.architecture``."""


@lru_cache(maxsize=16)  # a planner asks for one after the other, but for each of them several times
def tape_of(topology: Topology, size: tuple[int, ...], *, channels: int, labels: int) -> Tape:
    """All that the network of a topology computes to answer for one patch; ``labels`` counts the background."""
    tape = Tape(topology.seen_size(size), channels=channels, labels=labels, checkpointing=topology.checkpointing)
    ARCHITECTURES[topology.architecture].write(tape, topology)
    return tape

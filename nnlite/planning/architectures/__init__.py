"""One file per architecture: what its torch module in ``nnlite/networks`` computes, and how deep it is by default."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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


def tape_of(topology: Topology, size: Sequence[int], *, channels: int, labels: int) -> tuple[Tape, int]:
    """All that the network of a topology computes for the smallest patch, and how many times as large ``size`` is.

    ``labels`` counts the background. Maps grow in proportion to the patch, weights do not grow. Without padding they
    have margins that do not grow either; then it is all for ``size`` itself, once.
    """
    smallest = topology.divisor if ARCHITECTURES[topology.architecture].padded else tuple(size)
    return _tape(topology, smallest, channels, labels), math.prod(size) // math.prod(smallest)


@lru_cache(maxsize=64)  # a planner tries many patches, most of which lead to a few topologies
def _tape(topology: Topology, size: tuple[int, ...], channels: int, labels: int) -> Tape:
    tape = Tape(topology.seen_size(size), channels=channels, labels=labels, checkpointing=topology.checkpointing)
    ARCHITECTURES[topology.architecture].write(tape, topology)
    return tape

"""What a user asks of the network before its sizes are planned: the architecture, and what goes with any of them.

Numbers in, numbers out. Everything else about the network follows from the patch (``topology.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Literal

from nnlite.data.records import record
from nnlite.errors import PlanError, UsageError
from nnlite.planning.architectures import ARCHITECTURES
from nnlite.planning.architectures.encoder import STEM_KERNELS
from nnlite.planning.topology import (
    KERNEL,
    Architecture,
    Stem,
    Topology,
    plan_topology,
    require_several_inputs,
)

Residual = Literal["M", "L", "XL"]
Fusion = Literal["early", "separate"]

KERNELS = (3, 5, 7)  # voxels; wider ones cost more than they see
OF_NNUNET: tuple[Architecture, ...] = ("unet", "resenc")  # what nnU-Net's own planners know


@record
class NetworkChoice:
    """The family of network; ``kernel`` in voxels along axes on which it is not flat; see ``Topology``.

    With ``fusion`` "separate" each of the ``sequences``, the channels of the image, has an encoder of its own.
    """

    architecture: Architecture = "unet"
    kernel: int = KERNEL
    checkpointing: bool = False
    fusion: Fusion = "early"
    sequences: int = 0
    stem: Stem = "plain"

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise PlanError(f"there is no architecture {self.architecture!r}; there are {', '.join(ARCHITECTURES)}")
        if self.kernel not in KERNELS:
            raise PlanError(f"kernels of {self.kernel} voxels are not planned; {', '.join(map(str, KERNELS))} are")
        if (self.fusion, self.stem) != ("early", "plain"):
            require_several_inputs(self.architecture)

    def of_channels(self, channels: Sequence[str]) -> NetworkChoice:
        """The choice for images of these channels; PlanError where there are not several to be kept apart."""
        if self.fusion == "early":
            return self
        if len(channels) < 2:
            raise PlanError(
                f"--fusion separate gives each channel an encoder of its own, and there is only one, {channels[0]}; "
                "leave it out"
            )
        return replace(self, sequences=len(channels))

    def encoders(self, channels: int) -> tuple[int, ...]:
        """``Topology.encoders`` for so many channels that the network sees: those beside the image's share one."""
        if self.fusion == "early":
            return ()
        beside = channels - self.sequences
        return (*(1,) * self.sequences, *((beside,) if beside else ()))

    def topology(
        self,
        spacing_mm: Sequence[float],
        patch_size: Sequence[int],
        *,
        channels: int | None = None,
        base_features: int | None = None,
        max_features: int | None = None,
    ) -> tuple[Topology, tuple[int, ...]]:
        """``plan_topology`` for this choice; without ``channels``, as if one encoder saw all."""
        return plan_topology(
            spacing_mm,
            patch_size,
            architecture=self.architecture,
            kernel=self.kernel,
            checkpointing=self.checkpointing,
            encoders=() if channels is None else self.encoders(channels),
            stem=self.stem,
            base_features=base_features,
            max_features=max_features,
        )

    @property
    def is_of_nnunet(self) -> bool:
        """Whether nnU-Net's own planners could have chosen it."""
        return self == NetworkChoice(architecture=self.architecture) and self.architecture in OF_NNUNET

    def reasons(self, *, on_gpu: bool) -> dict[str, str]:
        """Why the network is what it is, in words, by what was decided; what it is planned for tells what it gains."""
        name = ARCHITECTURES[self.architecture].name
        asked = "the default" if self.architecture == "unet" else "asked for"
        reasons = {"architecture": f"{self.architecture}: {asked}; a {name}"}
        if self.kernel != KERNEL:
            reasons["kernel"] = f"{self.kernel}: asked for; {KERNEL} is the default, and slices stay flat as always"
        if self.checkpointing:
            means = " and leaves memory for a larger patch"
            if not on_gpu:
                means = ", of which a CPU's plan allows no more than before: its patch, or its width, may get smaller"
            reasons["checkpointing"] = (
                "asked for: what a stage computes inside is forgotten and computed again in the backward pass, which "
                f"takes a third more multiplications{means}"
            )
        if self.fusion != "early":
            reasons["fusion"] = (
                f"{self.fusion}: asked for; each of {self.sequences} channels has an encoder of its own, and a 1 x 1 "
                "convolution joins what they say at every scale before the decoder"
            )
        if self.stem != "plain":
            kernels = ", ".join(map(str, STEM_KERNELS))
            reasons["stem"] = f"{self.stem}: asked for; kernels of {kernels} voxels side by side at full resolution"
        return reasons


def choice_of(topology: Topology) -> NetworkChoice:
    """What a topology was, or might have been, planned from."""
    widest = max(size for kernel in topology.kernels for size in kernel)
    return NetworkChoice(
        architecture=topology.architecture,
        kernel=widest if widest in KERNELS else KERNEL,
        checkpointing=topology.checkpointing,
        fusion="separate" if topology.encoders else "early",
        sequences=len(list(takewhile(lambda channels: channels == 1, topology.encoders))),
        stem=topology.stem,
    )


INSTEAD: Mapping[str, Mapping[str, Any]] = {
    "leave out --fusion separate": {"fusion": "early", "sequences": 0},
    "leave out --stem multi-scale": {"stem": "plain"},
    f"take kernels of {KERNEL} voxels": {"kernel": KERNEL},
    "take another network (--architecture unet)": {"architecture": "unet"},
    "let stages be computed twice (--checkpointing)": {"checkpointing": True},
    "leave out --checkpointing": {"checkpointing": False},
}
"""What may be changed of a choice, by how it is asked for."""


def ways_out(network: NetworkChoice, cost: Callable[[NetworkChoice], float]) -> list[str]:
    """What to do about a network that is too dear, in words: whatever would cost less, by the measure of its device."""
    dear = cost(network)
    return [words for words, change in INSTEAD.items() if cost(replace(network, **change)) < dear]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What was asked for of the network; None and False where nothing was."""

    architecture: Architecture | None = None
    kernel: int | None = None
    checkpointing: bool = False
    fusion: Fusion | None = None
    stem: Stem | None = None

    def choice(self, residual: Residual | None) -> NetworkChoice:
        """The network that is meant; UsageError if ``residual``, which names one too, names another."""
        if residual is not None and self.architecture not in (None, "resenc"):
            raise UsageError(
                f"--residual {residual} is a residual encoder (--architecture resenc) and the memory it was made for, "
                f"not --architecture {self.architecture}; leave out one of them"
            )
        return NetworkChoice(
            architecture="resenc" if residual is not None else self.architecture or "unet",
            kernel=KERNEL if self.kernel is None else self.kernel,
            checkpointing=self.checkpointing,
            fusion=self.fusion or "early",
            stem=self.stem or "plain",
        )


NOTHING_ASKED = NetworkOptions()

"""An encoder of its own for every sequence, joined at every scale before the decoder.

Sequences of magnetic resonance show different things: a path of its own lets each be read by filters of its own, and
what they found is put together where it is abstract enough to be compared. Nie et al., ISBI 2016, joined such paths at
their ends; HyperDense-Net (Dolz et al., IEEE Transactions on Medical Imaging 38, 1116-1126, 2019) lets them see each
other in every layer. Here they do not see each other, and what all of them say at a scale is joined by a 1 x 1
convolution: the decoder is that of any U-Net.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnlite.networks.blocks import ConvolutionBlock, run_stage
from nnlite.planning.topology import Topology


class SeparateEncoders(nn.Module):
    """Encoders beside each other; ``make_stem`` and ``encoder_stage`` are those of the U-Net that has them.

    Maps an image (batch, channels, *size), whose channels they share out by ``topology.encoders``, to what each stage
    hands to the decoder.
    """

    def __init__(
        self,
        topology: Topology,
        make_stem: Callable[[Topology, int], tuple[nn.Module, int]],
        encoder_stage: Callable[[Topology, int, int, int], nn.Module],
    ):
        super().__init__()
        self.channels, self.checkpointing = topology.encoders, topology.checkpointing
        stems = [make_stem(topology, channels) for channels in topology.encoders]
        self.stems = nn.ModuleList(stem for stem, _ in stems)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                encoder_stage(topology, stage, inputs, outputs)
                for stage, (inputs, outputs) in enumerate(pairwise((width, *topology.features)))
            )
            for _, width in stems
        )
        ones, count = (1,) * topology.ndim, len(stems)
        self.fusion = nn.ModuleList(ConvolutionBlock(count * width, width, ones) for width in topology.features)

    def forward(self, x: Tensor) -> list[Tensor]:
        """One map (batch, features, *size) per stage, full resolution first."""
        parts = x.split(self.channels, dim=1)
        maps = [run_stage(self.checkpointing, stem, part) for stem, part in zip(self.stems, parts, strict=True)]
        fused = []
        for stage, fuse in enumerate(self.fusion):
            maps = [
                run_stage(self.checkpointing, stages[stage], one)
                for stages, one in zip(self._encoders(), maps, strict=True)
            ]
            fused.append(run_stage(self.checkpointing, self._joined, fuse, maps))
        return fused

    def _encoders(self) -> list[nn.ModuleList]:
        return [stages for stages in self.stages if isinstance(stages, nn.ModuleList)]

    @staticmethod
    def _joined(fuse: nn.Module, maps: list[Tensor]) -> Tensor:
        joined: Tensor = fuse(torch.cat(maps, dim=1))
        return joined

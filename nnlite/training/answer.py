"""What a network's channels stand for, which voxels are judged, and which part of a batch is here: seen by any loss.

Labels that exclude each other are told apart by a softmax; regions, which may overlap, are a question of yes or no
each. Voxels of the ignore label are not judged, and in a case of partial annotation neither is what was not drawn.
Where several processes share the batch, each is given its part, and has the loss of the whole batch all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlite.data.labels import Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the channels of a network stand for, seen from a target that holds label indices.

    ``regions`` is (regions, indices) bool, which indices each region consists of, or None where each channel is a
    label and they exclude each other. Voxels of the index ``ignore`` are not judged; None where all are.
    """

    regions: Tensor | None = None
    ignore: int | None = None

    @classmethod
    def to(cls, labels: Labels, device: torch.device) -> Answer:
        """The answer that this table of labels asks for."""
        regions = None
        if labels.regions:
            regions = torch.zeros(len(labels.regions), labels.index_count, dtype=torch.bool)
            for row, members in zip(regions, labels.members, strict=True):
                row[list(members)] = True
            regions = regions.to(device)
        return cls(regions=regions, ignore=labels.ignore_index)

    def known(self, target: Tensor) -> Tensor | None:
        """Which voxels of a target are judged; None for all of them."""
        return None if self.ignore is None else target != self.ignore

    def wanted(self, target: Tensor, channels: int) -> Tensor:
        """What each of so many channels should say of a target (batch, *size): (batch, channels, *size) bool."""
        if self.regions is not None:
            return self.regions.t()[target].movedim(-1, 1)
        return target[:, None] == torch.arange(channels, device=target.device).view(-1, *(1,) * (target.ndim - 1))


LABELS = Answer()
"""Labels that exclude each other, on every voxel."""

Drawn = Tensor | None
"""Which channels stand for something that is drawn in each sample, (batch, channels) bool; None where all do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of a batch is here: a ``fraction`` of its samples. ``total`` adds up a tensor over all parts."""

    fraction: float = 1.0
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor

    def mean(self, here: Tensor) -> Tensor:
        """A mean over the samples of the batch, from that over the samples here."""
        return here if self.fraction == 1 else self.total(here * self.fraction)

    def mean_of(self, values: Tensor, judged: Tensor) -> Tensor:
        """Mean over the judged entries of the batch; 0 where there is none."""
        return self.total((values * judged).sum()) / self.total(judged.sum()).clamp(min=1)


WHOLE = Part()
"""The batch is here, all of it."""

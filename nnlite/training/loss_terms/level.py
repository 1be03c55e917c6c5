"""One level of the decoder: what it answered and what it should have, in the forms that the terms of a loss take.

What several terms need is computed once: logarithms of probabilities, probabilities, the target channel by channel.
All in float32 (float64 stays float64), whatever the network's precision. Where structures of a sample were not drawn,
its background may be any of them: the marginal loss of Shi et al., Medical Image Analysis 70, 101979, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from nnlite.training.answer import LABELS, WHOLE, Answer, Drawn, Part
from nnlite.training.target_maps import NO_MAPS, TargetMaps


@dataclass(frozen=True, kw_only=True)  # without slots, for the sake of what is computed once
class Level:
    """Logits (batch, channels, *size) and their target (batch, *size) of label indices.

    ``maps`` are those of the target at the same size. ``batch_dice`` tells terms that are a ratio of sums to take the
    batch as one volume; otherwise each sample counts for itself.
    """

    logits: Tensor
    target: Tensor
    answer: Answer = LABELS
    drawn: Drawn = None
    part: Part = WHOLE
    batch_dice: bool = True
    maps: TargetMaps = NO_MAPS

    @property
    def exclusive(self) -> bool:
        """Whether the channels are labels that exclude each other, the first of them the background."""
        return self.answer.regions is None

    @cached_property
    def precise(self) -> Tensor:
        """The logits in the precision of the loss."""
        return self.logits.to(torch.promote_types(self.logits.dtype, torch.float32))

    @cached_property
    def known(self) -> Tensor | None:
        """Which voxels (batch, *size) are judged; None for all."""
        return self.answer.known(self.target)

    @cached_property
    def labels(self) -> Tensor:
        """The target with background in the place of what is not judged."""
        return self.target if self.known is None else self.target.masked_fill(~self.known, 0)

    @cached_property
    def logarithms(self) -> Tensor:
        """Logarithms of the probabilities of labels; those of labels that are not drawn belong to the background.

        The channels of labels that are not drawn stay; no voxel of the target asks for them.
        """
        logarithms = self.precise.log_softmax(dim=1)
        if self.drawn is None:
            return logarithms
        others = torch.cat((torch.zeros_like(self.drawn[:, :1]), self.drawn[:, 1:]), dim=1)
        background = logarithms.masked_fill(over_voxels(others, logarithms), -torch.inf).logsumexp(dim=1, keepdim=True)
        return torch.cat((background, logarithms[:, 1:]), dim=1)

    @cached_property
    def probabilities(self) -> Tensor:
        """Of each channel, (batch, channels, *size)."""
        return self.logarithms.exp() if self.exclusive else self.precise.sigmoid()

    @cached_property
    def wanted(self) -> Tensor:
        """What each channel should say: (batch, channels, *size) of 0 and 1."""
        if self.exclusive:
            return torch.zeros_like(self.precise).scatter_(1, self.labels[:, None], 1)
        return self.answer.wanted(self.target, self.logits.shape[1]).to(self.precise.dtype)

    @cached_property
    def entropy(self) -> Tensor:
        """Cross-entropy of each voxel (batch, *size); of regions the binary one of each channel, too."""
        if self.exclusive:
            return functional.nll_loss(self.logarithms, self.labels, reduction="none")
        return functional.binary_cross_entropy_with_logits(self.precise, self.wanted, reduction="none")

    @property
    def first_structure(self) -> int:
        """The first channel that is no background."""
        return int(self.exclusive)

    def judged(self, values: Tensor) -> Tensor | None:
        """Which of these values, (batch, *size) or (batch, channels, *size), count; None where all do."""
        if values.ndim < self.logits.ndim or self.drawn is None:
            if self.known is None or values.ndim < self.logits.ndim:
                return self.known
            return self.known[:, None].expand_as(values)
        drawn = over_voxels(self.drawn[:, -values.shape[1] :], values).expand_as(values)
        return drawn if self.known is None else drawn & self.known[:, None]

    def mean(self, values: Tensor) -> Tensor:
        """Mean of such values over what is judged in the whole batch; 0 where that is nothing.

        Values of fewer channels than there are, are those of the last ones: of the structures.
        """
        if values.ndim == self.logits.ndim and self.drawn is None:
            values = values.mean(dim=1)
        judged = self.judged(values)
        return self.part.mean(values.mean()) if judged is None else self.part.mean_of(values, judged)


def over_voxels(drawn: Tensor, values: Tensor) -> Tensor:
    """``drawn`` (batch, channels) in a shape that fits values (batch, channels, *size)."""
    return drawn.view(*drawn.shape, *(1,) * (values.ndim - 2))

"""What the answers of a network say about a voxel: which label it is, and how sure that is.

Labels that exclude each other share a probability of one, and the highest score wins. Regions may overlap: each is
asked for on its own, and those that are there are painted one over the other, in the order of the label table, as in
nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021). The border of instances is a part of their label: a voxel is
the label's where the two together are more probable than the background. Scores arrive one channel at a time, so that
they never have to be held together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlite.data.labels import Labels
from nnlite.preprocessing.resample import winner

Scores = Iterable[tuple[int, Tensor]]
"""The scores of each channel, one (index, (z, y, x)) after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How scores become label indices: ``painted`` holds those of the regions, none where labels exclude each other.

    ``labels`` counts the labels, background included. With a ``border`` there are two, and the channel after theirs is
    that of the border of instances; where it is above its label's, the index after theirs is decided for.
    """

    labels: int
    painted: tuple[int, ...] = ()
    border: bool = False

    @classmethod
    def by(cls, labels: Labels) -> Decision:
        """The decision that this table of labels asks for."""
        return cls(labels=labels.count, painted=labels.painted, border=labels.border_index is not None)

    @property
    def channels(self) -> int:
        """How many channels there are to decide by."""
        return len(self.painted) or self.labels + self.border

    @property
    def of_nothing(self) -> tuple[float, ...]:
        """The probabilities of labels where nothing was looked at: background for certain, or no region."""
        return (0.0,) * len(self.painted) or (1.0, *[0.0] * (self.labels - 1))

    def from_logits(self, scores: Scores) -> Tensor:
        """Label indices (z, y, x) int16; a region is there where its logit is above 0."""
        if self.border:
            return _with_border(*(score for _, score in scores), together=torch.logaddexp)
        return self._paint(scores, above=0.0) if self.painted else winner(scores)

    def from_probabilities(self, scores: Scores) -> Tensor:
        """Label indices (z, y, x) int16; a region is there where its probability is above 1/2."""
        if self.border:
            return _with_border(*(score for _, score in scores), together=torch.add)
        return self._paint(scores, above=0.5) if self.painted else winner(scores)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of logits (channels, z, y, x)."""
        return logits.sigmoid() if self.painted else logits.softmax(dim=0)

    def of_labels(self, probabilities: Tensor) -> Tensor:
        """Probabilities of the labels or regions, from those of the channels: the border's is added to its label's."""
        if not self.border:
            return probabilities
        background, inside, border = probabilities
        return torch.stack((background, inside + border))

    def without_border(self, indices: Tensor) -> Tensor:
        """Label indices in which the border is a part of its label."""
        return indices.clamp(max=self.labels - 1) if self.border else indices

    def _paint(self, scores: Scores, *, above: float) -> Tensor:
        """Index of the last region whose score is ``above``.

        >>> whole, core = torch.tensor([0.9, 0.8, 0.1]), torch.tensor([0.2, 0.7, 0.6])
        >>> Decision(labels=3, painted=(1, 2)).from_probabilities([(0, whole), (1, core)])
        tensor([1, 2, 2], dtype=torch.int16)
        """
        indices: Tensor | None = None
        for channel, score in scores:
            if indices is None:
                indices = torch.zeros(score.shape, dtype=torch.int16, device=score.device)
            indices.masked_fill_(score > above, self.painted[channel])
        assert indices is not None, "there is no decision without a region"
        return indices


def _with_border(
    background: Tensor, inside: Tensor, border: Tensor, *, together: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Index 0, 1 or, where the border is above the inside of its instance, 2; int16.

    >>> background, inside, border = torch.tensor([0.5, 0.4, 0.4]), torch.tensor([0.3, 0.4, 0.2]), torch.tensor(0.3)
    >>> _with_border(background, inside, border, together=torch.add)
    tensor([1, 1, 2], dtype=torch.int16)
    """
    found = (together(inside, border) > background).to(torch.int16)
    return found * (1 + (border > inside).to(torch.int16))

"""The loss of a training: a sum of named terms at every level of the decoder.

The default is nnU-Net's, soft Dice plus cross-entropy (Isensee et al., Nature Methods 18, 203-211, 2021). Other terms
are in ``loss_terms``, each with its source; ``dice+ce`` or ``0.5*focal+dice`` names a sum of them. Deep supervision:
Lee et al., AISTATS 2015. Tensors in, a scalar tensor out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor
from torch.nn import functional

from nnlite.errors import UsageError
from nnlite.training.answer import LABELS, WHOLE, Answer, Drawn, Part
from nnlite.training.loss_terms.boundary import boundary, share_of_others
from nnlite.training.loss_terms.entropy import (
    binary_cross_entropy,
    border_weighted_entropy,
    cross_entropy,
    focal,
    top_entropy,
)
from nnlite.training.loss_terms.level import Level
from nnlite.training.loss_terms.overlap import batch_dice, dice, generalised_dice, sample_dice, tversky
from nnlite.training.target_maps import BORDER_WEIGHTS, DISTANCES, NO_MAPS, TargetMaps

BOUNDARY = "boundary"
TERMS: dict[str, Callable[[Level], Tensor]] = {
    "dice": dice,
    "batch-dice": batch_dice,
    "sample-dice": sample_dice,
    "generalised-dice": generalised_dice,
    "tversky": tversky,
    "ce": cross_entropy,
    "bce": binary_cross_entropy,
    "focal": focal,
    "topk": top_entropy,
    "border-weighted": border_weighted_entropy,
    BOUNDARY: boundary,
}
MAPS = {"border-weighted": BORDER_WEIGHTS, BOUNDARY: DISTANCES}  # what the batches must bring for a term


@dataclass(frozen=True, slots=True)
class Loss:
    """A sum of terms, each with a weight, in an order that makes no difference."""

    terms: tuple[tuple[str, float], ...]

    @classmethod
    def named(cls, text: str) -> Loss:
        """The loss that a text names; ``UsageError`` tells the terms there are.

        >>> Loss.named("0.5*focal + dice").terms
        (('dice', 1.0), ('focal', 0.5))
        """
        weights: dict[str, float] = {}
        for part in text.split("+"):
            number, _, name = part.rpartition("*")
            name = name.strip()
            if name not in TERMS:
                raise UsageError(
                    f'there is no loss "{name}"; {text} is to be one of {", ".join(TERMS)}, or a sum of them, '
                    "as dice+ce or 0.5*focal+dice"
                )
            if name in weights:
                raise UsageError(f"{text} names {name} twice; give it a weight, as 2*{name}")
            weights[name] = _weight(number, text)
        if set(weights) == {BOUNDARY}:
            raise UsageError(
                "boundary alone does not find structures from the beginning; name a term beside it, as boundary+dice"
            )
        return cls(tuple((name, weights[name]) for name in TERMS if name in weights))

    @property
    def needs(self) -> frozenset[str]:
        """The maps of the target that its terms want."""
        return frozenset(MAPS[name] for name, _ in self.terms if name in MAPS)

    def in_words(self) -> str:
        """Its name, one for all orders of its terms.

        >>> Loss.named("0.5*focal + 2*dice").in_words()
        '2*dice+0.5*focal'
        """
        weights = ("" if weight == 1 else f"{str(weight).removesuffix('.0')}*" for _, weight in self.terms)
        return "+".join(weight + name for weight, (name, _) in zip(weights, self.terms, strict=True))

    def of(self, level: Level, share_done: float = 0.0) -> Tensor:
        """The loss of one level, when this share of the training is done."""
        rebalanced = any(name == BOUNDARY for name, _ in self.terms)
        others = share_of_others(share_done) if rebalanced else 1.0
        parts = []
        for name, weight in self.terms:
            weight *= 1 - others if name == BOUNDARY else others
            if weight:
                value = TERMS[name](level)
                parts.append(value if weight == 1 else weight * value)
        return reduce(add, parts)


def _weight(number: str, text: str) -> float:
    """The weight before a term's star; 1 where there is none."""
    if not number.strip():
        return 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise UsageError(f'"{number.strip()}" in the loss {text} is no positive number')
    return weight


DICE_AND_ENTROPY = Loss.named("dice+ce")
"""The default."""


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    answer: Answer = LABELS,
    drawn: Drawn = None,
    *,
    batch_dice: bool,
    part: Part = WHOLE,
    loss: Loss = DICE_AND_ENTROPY,
    maps: TargetMaps = NO_MAPS,
    share_done: float = 0.0,
) -> Tensor:
    """The loss of logits (batch, channels, *size) of a target (batch, *size) of label indices, in float32.

    Where no voxel is judged it is 0: then there is nothing to learn. What is not ``drawn`` in a sample takes no part;
    labels that are not drawn count as its background, regions that are not do not count at all.
    """
    level = Level(logits=logits, target=target, answer=answer, drawn=drawn, part=part, batch_dice=batch_dice, maps=maps)
    return loss.of(level, share_done)


def level_weights(levels: int) -> list[float]:
    """Weight of each decoder level: halved from level to level, the lowest left out, summing to 1.

    >>> level_weights(4)
    [0.5714285714285714, 0.2857142857142857, 0.14285714285714285, 0.0]
    """
    weights = [0.5**level for level in range(levels)]
    if levels > 1:
        weights[-1] = 0.0
    total = sum(weights)
    return [weight / total for weight in weights]


def output_weights(sizes: Sequence[Sequence[int]]) -> list[float]:
    """Weight of each output by its size, full resolution first: outputs of one level share what the level weighs.

    >>> output_weights([(8, 8), (8, 8), (4, 4), (2, 2)])
    [0.3333333333333333, 0.3333333333333333, 0.3333333333333333, 0.0]
    """
    shapes = [tuple(size) for size in sizes]
    levels = list(dict.fromkeys(shapes))
    weights = level_weights(len(levels))
    return [weights[levels.index(shape)] / shapes.count(shape) for shape in shapes]


def deep_supervision_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    answer: Answer = LABELS,
    drawn: Drawn = None,
    *,
    batch_dice: bool,
    part: Part = WHOLE,
    loss: Loss = DICE_AND_ENTROPY,
    maps: TargetMaps = NO_MAPS,
    share_done: float = 0.0,
) -> Tensor:
    """Weighted loss over all outputs (full resolution first); the target is thinned out to the size of each."""
    total = outputs[0].new_zeros((), dtype=torch.promote_types(outputs[0].dtype, torch.float32))
    for logits, weight in zip(outputs, output_weights([logits.shape[2:] for logits in outputs]), strict=True):
        if weight > 0:
            smaller, thinner = thin_out(target, logits.shape[2:]), maps.thinned_out(logits.shape[2:])
            total = total + weight * segmentation_loss(
                logits,
                smaller,
                answer,
                drawn,
                batch_dice=batch_dice,
                part=part,
                loss=loss,
                maps=thinner,
                share_done=share_done,
            )
    return total


def thin_out(target: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest-neighbour copy of a label map (batch, *shape) at a smaller size."""
    if tuple(target.shape[1:]) == tuple(size):
        return target
    small = functional.interpolate(target[:, None].float(), size=tuple(size), mode="nearest-exact")
    return small[:, 0].to(target.dtype)

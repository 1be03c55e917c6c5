"""Terms that are 1 minus a ratio of sums over voxels: Dice and its relatives.

The sums are over the batch as if it were one volume, or over each sample for itself. A structure that is absent from
target and answer is right: the ratio of 0 to 0 is 1. Background has no Dice of its own. Voxels that are not judged
count in no sum; what is not drawn in a sample takes no part in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnlite.training.answer import WHOLE
from nnlite.training.loss_terms.level import Level, over_voxels

SMOOTH = 1e-5  # keeps the ratio of structures that are absent from target and prediction finite
FALSE_POSITIVES, FALSE_NEGATIVES = 0.3, 0.7  # what they count in Tversky's index; the best of Salehi et al.


def dice(level: Level) -> Tensor:
    """1 minus the mean soft Dice over structures. Drozdzal et al., DLMIA 2016; the batch as planned."""
    return _dice(level, batch=level.batch_dice)


def batch_dice(level: Level) -> Tensor:
    """The same over the batch as one volume, whatever was planned."""
    return _dice(level, batch=True)


def sample_dice(level: Level) -> Tensor:
    """The same with each sample for itself, whatever was planned."""
    return _dice(level, batch=False)


def tversky(
    level: Level, *, false_positives: float = FALSE_POSITIVES, false_negatives: float = FALSE_NEGATIVES
) -> Tensor:
    """1 minus the mean Tversky index over structures, ``TP / (TP + 0.3 FP + 0.7 FN)``: what is missed costs more.

    Salehi et al., MLMI 2017. With 0.5 and 0.5 it is the Dice.
    """
    hits, predicted, wanted = (_total(one, level, level.batch_dice) for one in _sums(level, level.batch_dice))
    missed = false_positives * (predicted - hits) + false_negatives * (wanted - hits)
    return _one_minus_mean((hits + SMOOTH) / (hits + missed + SMOOTH), level, level.batch_dice)


def generalised_dice(level: Level) -> Tensor:
    """1 minus one Dice of all labels together, each divided by the square of its volume, background included.

    Sudre et al., DLMIA 2017. A label that is nowhere in the target has no such weight: it gets that of the smallest one
    that is. Of regions there is no background.
    """
    batch, part = level.batch_dice, level.part
    hits, predicted, wanted = (_total(one, level, batch) for one in _sums(level, batch, first=0))
    squares = wanted.clamp(min=1) ** -2
    largest = squares.masked_fill(wanted == 0, 0).amax(dim=-1, keepdim=True)
    weights = torch.where(wanted > 0, squares / largest.clamp(min=torch.finfo(squares.dtype).tiny), 1.0)
    if level.drawn is not None:
        weights = weights * (part.total(level.drawn.sum(dim=0)) > 0 if batch else level.drawn)
    ratio = (2 * (weights * hits).sum(dim=-1) + SMOOTH) / ((weights * (predicted + wanted)).sum(dim=-1) + SMOOTH)
    return 1 - (ratio if batch else part.mean(ratio.mean()))


def _dice(level: Level, *, batch: bool) -> Tensor:
    hits, predicted, wanted = _sums(level, batch)
    hits, volumes = _total(hits, level, batch), _total(predicted + wanted, level, batch)
    return _one_minus_mean((2 * hits + SMOOTH) / (volumes + SMOOTH), level, batch)


def _sums(level: Level, batch: bool, *, first: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Over the voxels here: of both together, of what is predicted and of what is wanted, each (.., channels).

    The channels are those from ``first`` on, by default all structures.
    """
    first = level.first_structure if first is None else first
    probabilities, wanted = level.probabilities[:, first:], level.wanted[:, first:]
    if level.known is not None:
        probabilities, wanted = probabilities * level.known[:, None], wanted * level.known[:, None]
    if level.drawn is not None and batch:  # else each sample counts for itself, and those not drawn are left out later
        mask = over_voxels(level.drawn[:, first:], probabilities)
        probabilities, wanted = probabilities * mask, wanted * mask
    axes = tuple(range(0 if batch else 2, probabilities.ndim))
    axes = tuple(axis for axis in axes if axis != 1)
    return (probabilities * wanted).sum(axes), probabilities.sum(axes), wanted.sum(axes)


def _total(here: Tensor, level: Level, batch: bool) -> Tensor:
    """A sum over the batch, from that over the samples here; of single samples it stays."""
    return level.part.total(here) if batch else here


def _one_minus_mean(ratios: Tensor, level: Level, batch: bool) -> Tensor:
    """1 minus the mean over structures, and samples unless they were added up; 0 where nothing is drawn."""
    drawn = None if level.drawn is None else level.drawn[:, level.first_structure :]
    if not batch:
        return 1 - level.part.mean(ratios.mean()) if drawn is None else level.part.mean_of(1 - ratios, drawn)
    if drawn is None:
        return 1 - ratios.mean()
    return WHOLE.mean_of(1 - ratios, level.part.total(drawn.sum(dim=0)) > 0)

"""The loss of nnU-Net: cross-entropy plus soft Dice at every level of the decoder.

Labels that exclude each other are told apart by a softmax, and background counts in the cross-entropy alone. Regions,
which may overlap, are a question of yes or no each: binary cross-entropy and sigmoid Dice over all of them. Voxels of
the ignore label count in neither. Isensee et al., Nature Methods 18, 203-211, 2021; soft Dice: Drozdzal et al., DLMIA
2016; deep supervision: Lee et al., AISTATS 2015. Tensors in, a scalar tensor out.

Where several processes share the batch, each is given its part, and has the loss of the whole batch all the same (see
``Part``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nnlite.data.labels import Labels
from nnlite.training.deterministic import mean_nll

SMOOTH = 1e-5  # keeps the Dice of labels that are absent from target and prediction finite


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of a batch is here: a ``fraction`` of its samples. ``total`` adds up a tensor over all parts."""

    fraction: float = 1.0
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor

    def mean(self, here: Tensor) -> Tensor:
        """A mean over the samples of the batch, from that over the samples here."""
        return here if self.fraction == 1 else self.total(here * self.fraction)


WHOLE = Part()
"""The batch is here, all of it."""


def soft_dice_loss(logits: Tensor, target: Tensor, *, batch_dice: bool) -> Tensor:
    """1 - mean soft Dice over the foreground labels; 0 is perfect.

    ``logits`` (batch, labels, *size), ``target`` (batch, *size) label indices. ``batch_dice`` sums intersections and
    volumes over the batch as if it were one volume; otherwise each sample counts for itself.
    """
    return _labels_dice(logits.softmax(dim=1), target, None, WHOLE, batch_dice=batch_dice)


def segmentation_loss(
    logits: Tensor, target: Tensor, answer: Answer = LABELS, *, batch_dice: bool, part: Part = WHOLE
) -> Tensor:
    """Cross-entropy plus soft Dice loss of one level, computed in float32 whatever the network's precision.

    Where no voxel is judged both are 0: then there is nothing to learn.
    """
    known = answer.known(target)
    if answer.regions is not None:
        return _regions_loss(logits.float(), answer.wanted(target, logits.shape[1]).float(), known, part, batch_dice)
    logarithms = logits.float().log_softmax(dim=1)  # of the probabilities, for both terms
    if known is None:
        entropy = part.mean(mean_nll(logarithms, target))
    else:
        target = target.masked_fill(~known, 0)
        entropy = _mean(functional.nll_loss(logarithms, target, reduction="none"), known, part)
    return entropy + _labels_dice(logarithms.exp(), target, known, part, batch_dice=batch_dice)


def _labels_dice(
    probabilities: Tensor, target: Tensor, known: Tensor | None, part: Part, *, batch_dice: bool
) -> Tensor:
    wanted = torch.zeros_like(probabilities).scatter_(1, target[:, None], 1)
    return _dice_loss(probabilities[:, 1:], wanted[:, 1:], known, part, batch_dice)


def _regions_loss(logits: Tensor, wanted: Tensor, known: Tensor | None, part: Part, batch_dice: bool) -> Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1)
    mean = part.mean(entropy.mean()) if known is None else _mean(entropy, known, part)
    return mean + _dice_loss(logits.sigmoid(), wanted, known, part, batch_dice)


def _dice_loss(probabilities: Tensor, wanted: Tensor, known: Tensor | None, part: Part, batch_dice: bool) -> Tensor:
    """1 - mean soft Dice over channels; both (batch, channels, *size), of which only ``known`` voxels count."""
    if known is not None:
        probabilities, wanted = probabilities * known[:, None], wanted * known[:, None]
    axes = tuple(range(2, probabilities.ndim))
    if batch_dice:
        axes = (0, *axes)
    intersection = (probabilities * wanted).sum(axes)
    volumes = probabilities.sum(axes) + wanted.sum(axes)
    if batch_dice:
        intersection, volumes = part.total(intersection), part.total(volumes)
        return 1 - _mean_dice(intersection, volumes)
    return 1 - part.mean(_mean_dice(intersection, volumes))


def _mean_dice(intersection: Tensor, volumes: Tensor) -> Tensor:
    return ((2 * intersection + SMOOTH) / (volumes + SMOOTH)).mean()


def _mean(values: Tensor, known: Tensor, part: Part) -> Tensor:
    """Mean over the known voxels of the batch; 0 where there is none."""
    return part.total((values * known).sum()) / part.total(known.sum()).clamp(min=1)


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


def deep_supervision_loss(
    outputs: Sequence[Tensor], target: Tensor, answer: Answer = LABELS, *, batch_dice: bool, part: Part = WHOLE
) -> Tensor:
    """Weighted loss over all decoder levels (full resolution first); the target is thinned out to each level's size."""
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for logits, weight in zip(outputs, level_weights(len(outputs)), strict=True):
        if weight > 0:
            size = logits.shape[2:]
            thinned = thin_out(target, size)
            total = total + weight * segmentation_loss(logits, thinned, answer, batch_dice=batch_dice, part=part)
    return total


def thin_out(target: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest-neighbour copy of a label map (batch, *shape) at a smaller size."""
    if tuple(target.shape[1:]) == tuple(size):
        return target
    small = functional.interpolate(target[:, None].float(), size=tuple(size), mode="nearest-exact")
    return small[:, 0].to(target.dtype)

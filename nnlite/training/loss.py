"""The loss of nnU-Net: cross-entropy plus soft Dice at every level of the decoder.

Labels that exclude each other are told apart by a softmax, and background counts in the cross-entropy alone. Regions,
which may overlap, are a question of yes or no each: binary cross-entropy and sigmoid Dice over all of them. Voxels of
the ignore label count in neither. Isensee et al., Nature Methods 18, 203-211, 2021; soft Dice: Drozdzal et al., DLMIA
2016; deep supervision: Lee et al., AISTATS 2015. Where structures of a sample were not drawn, its background may be any
of them: the marginal loss of Shi et al., Medical Image Analysis 70, 101979, 2021. Tensors in, a scalar tensor out.

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


WHOLE = Part()
"""The batch is here, all of it."""


def soft_dice_loss(logits: Tensor, target: Tensor, *, batch_dice: bool) -> Tensor:
    """1 - mean soft Dice over the foreground labels; 0 is perfect.

    ``logits`` (batch, labels, *size), ``target`` (batch, *size) label indices. ``batch_dice`` sums intersections and
    volumes over the batch as if it were one volume; otherwise each sample counts for itself.
    """
    return _labels_dice(logits.softmax(dim=1), target, None, None, WHOLE, batch_dice=batch_dice)


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    answer: Answer = LABELS,
    drawn: Drawn = None,
    *,
    batch_dice: bool,
    part: Part = WHOLE,
) -> Tensor:
    """Cross-entropy plus soft Dice loss of one level, computed in float32 whatever the network's precision.

    Where no voxel is judged both are 0: then there is nothing to learn. What is not ``drawn`` in a sample takes no part
    in its Dice; labels that are not drawn count as its background, regions that are not do not count at all.
    """
    known = answer.known(target)
    if answer.regions is not None:
        wanted = answer.wanted(target, logits.shape[1]).float()
        return _regions_loss(logits.float(), wanted, known, drawn, part, batch_dice)
    logarithms = logits.float().log_softmax(dim=1)  # of the probabilities, for both terms
    if drawn is not None:
        logarithms = _with_marginal_background(logarithms, drawn)
    if known is None:
        entropy = part.mean(mean_nll(logarithms, target))
    else:
        target = target.masked_fill(~known, 0)
        entropy = _mean(functional.nll_loss(logarithms, target, reduction="none"), known, part)
    return entropy + _labels_dice(logarithms.exp(), target, known, drawn, part, batch_dice=batch_dice)


def _with_marginal_background(logarithms: Tensor, drawn: Tensor) -> Tensor:
    """Logarithms of probabilities (batch, labels, *size), where labels that are not drawn are added to the background.

    The channels of labels that are not drawn stay; no voxel of the target asks for them.
    """
    others = torch.cat((torch.zeros_like(drawn[:, :1]), drawn[:, 1:]), dim=1)
    background = logarithms.masked_fill(_over_voxels(others, logarithms), -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat((background, logarithms[:, 1:]), dim=1)


def _labels_dice(
    probabilities: Tensor, target: Tensor, known: Tensor | None, drawn: Drawn, part: Part, *, batch_dice: bool
) -> Tensor:
    wanted = torch.zeros_like(probabilities).scatter_(1, target[:, None], 1)
    foreground = None if drawn is None else drawn[:, 1:]
    return _dice_loss(probabilities[:, 1:], wanted[:, 1:], known, foreground, part, batch_dice)


def _regions_loss(
    logits: Tensor, wanted: Tensor, known: Tensor | None, drawn: Drawn, part: Part, batch_dice: bool
) -> Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    if drawn is None:
        entropy = entropy.mean(dim=1)
        mean = part.mean(entropy.mean()) if known is None else _mean(entropy, known, part)
    else:
        judged = _over_voxels(drawn, entropy).expand_as(entropy)
        mean = _mean(entropy, judged if known is None else judged & known[:, None], part)
    return mean + _dice_loss(logits.sigmoid(), wanted, known, drawn, part, batch_dice)


def _dice_loss(
    probabilities: Tensor, wanted: Tensor, known: Tensor | None, drawn: Drawn, part: Part, batch_dice: bool
) -> Tensor:
    """1 - mean soft Dice over channels; both (batch, channels, *size), of which only ``known`` voxels count.

    Of each sample only the channels that are ``drawn`` count; 0 where none is.
    """
    if known is not None:
        probabilities, wanted = probabilities * known[:, None], wanted * known[:, None]
    if drawn is not None and batch_dice:  # else each sample counts for itself, and those not drawn are left out below
        mask = _over_voxels(drawn, probabilities)
        probabilities, wanted = probabilities * mask, wanted * mask
    axes = tuple(range(2, probabilities.ndim))
    if batch_dice:
        axes = (0, *axes)
    intersection = (probabilities * wanted).sum(axes)
    volumes = probabilities.sum(axes) + wanted.sum(axes)
    if batch_dice:
        intersection, volumes = part.total(intersection), part.total(volumes)
    dice = (2 * intersection + SMOOTH) / (volumes + SMOOTH)
    if not batch_dice:
        return 1 - part.mean(dice.mean()) if drawn is None else _mean(1 - dice, drawn, part)
    if drawn is None:
        return 1 - dice.mean()
    return _mean(1 - dice, part.total(drawn.sum(dim=0)) > 0, WHOLE)


def _over_voxels(drawn: Tensor, values: Tensor) -> Tensor:
    """``drawn`` (batch, channels) in a shape that fits values (batch, channels, *size)."""
    return drawn.view(*drawn.shape, *(1,) * (values.ndim - 2))


def _mean(values: Tensor, known: Tensor, part: Part) -> Tensor:
    """Mean over the known entries of the batch; 0 where there is none."""
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
) -> Tensor:
    """Weighted loss over all outputs (full resolution first); the target is thinned out to the size of each."""
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for logits, weight in zip(outputs, output_weights([logits.shape[2:] for logits in outputs]), strict=True):
        if weight > 0:
            small = thin_out(target, logits.shape[2:])
            total = total + weight * segmentation_loss(logits, small, answer, drawn, batch_dice=batch_dice, part=part)
    return total


def thin_out(target: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest-neighbour copy of a label map (batch, *shape) at a smaller size."""
    if tuple(target.shape[1:]) == tuple(size):
        return target
    small = functional.interpolate(target[:, None].float(), size=tuple(size), mode="nearest-exact")
    return small[:, 0].to(target.dtype)

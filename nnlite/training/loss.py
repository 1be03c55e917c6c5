"""The loss of nnU-Net: cross-entropy plus soft Dice without background, at every level of the decoder.

Isensee et al., Nature Methods 18, 203-211, 2021; soft Dice: Drozdzal et al., DLMIA 2016; deep supervision: Lee et al.,
AISTATS 2015. Tensors in, a scalar tensor out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nnlite.training.deterministic import mean_nll

SMOOTH = 1e-5  # keeps the Dice of labels that are absent from target and prediction finite


def soft_dice_loss(logits: Tensor, target: Tensor, *, batch_dice: bool) -> Tensor:
    """1 - mean soft Dice over the foreground labels; 0 is perfect.

    ``logits`` (batch, labels, *size), ``target`` (batch, *size) label indices. ``batch_dice`` sums intersections and
    volumes over the batch as if it were one volume; otherwise each sample counts for itself.
    """
    return _dice_loss(logits.softmax(dim=1), target, batch_dice=batch_dice)


def _dice_loss(probabilities: Tensor, target: Tensor, *, batch_dice: bool) -> Tensor:
    wanted = torch.zeros_like(probabilities).scatter_(1, target[:, None], 1)
    probabilities, wanted = probabilities[:, 1:], wanted[:, 1:]
    axes = tuple(range(2, probabilities.ndim))
    if batch_dice:
        axes = (0, *axes)
    intersection = (probabilities * wanted).sum(axes)
    volumes = probabilities.sum(axes) + wanted.sum(axes)
    return 1 - ((2 * intersection + SMOOTH) / (volumes + SMOOTH)).mean()


def segmentation_loss(logits: Tensor, target: Tensor, *, batch_dice: bool) -> Tensor:
    """Cross-entropy plus soft Dice loss of one level, computed in float32 whatever the network's precision."""
    logarithms = logits.float().log_softmax(dim=1)  # of the probabilities, for both terms
    return mean_nll(logarithms, target) + _dice_loss(logarithms.exp(), target, batch_dice=batch_dice)


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


def deep_supervision_loss(outputs: Sequence[Tensor], target: Tensor, *, batch_dice: bool) -> Tensor:
    """Weighted loss over all decoder levels (full resolution first); the target is thinned out to each level's size."""
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for logits, weight in zip(outputs, level_weights(len(outputs)), strict=True):
        if weight > 0:
            size = logits.shape[2:]
            total = total + weight * segmentation_loss(logits, thin_out(target, size), batch_dice=batch_dice)
    return total


def thin_out(target: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest-neighbour copy of a label map (batch, *shape) at a smaller size."""
    if tuple(target.shape[1:]) == tuple(size):
        return target
    small = functional.interpolate(target[:, None].float(), size=tuple(size), mode="nearest-exact")
    return small[:, 0].to(target.dtype)

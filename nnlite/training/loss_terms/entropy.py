"""Terms that are a mean over voxels: cross-entropy, and what weighs its voxels by how hard or how near to a border.

Cross-entropy of labels is that of the softmax, background included; of regions the binary one, a mean over regions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnlite.training.deterministic import mean_nll
from nnlite.training.loss_terms.level import Level

FOCAL_GAMMA = 2.0  # the best of those that Lin et al. tried
TOP_SHARE = 0.1  # nnU-Net's, in its trainer with top-k loss
SURE = 1e-7  # about the resolution of float32 below 1: nobody is surer, and the logarithm of 0 never asked for


def cross_entropy(level: Level) -> Tensor:
    """``-log p`` of what is right, the mean over voxels."""
    if level.exclusive and level.known is None:
        return level.part.mean(mean_nll(level.logarithms, level.labels))
    return level.mean(level.entropy)


def binary_cross_entropy(level: Level) -> Tensor:
    """``-log p`` where a channel is right and ``-log(1 - p)`` where it is not, the mean over channels and voxels.

    Of regions that is their cross-entropy. Labels are each asked against all others, background included.
    """
    if not level.exclusive:
        return cross_entropy(level)
    others = torch.log1p(-level.probabilities.clamp(max=1 - SURE))
    return level.mean(-torch.where(level.wanted > 0, level.logarithms, others))


def focal(level: Level) -> Tensor:
    """Cross-entropy times ``(1 - p)^2``, so that what is nearly right hardly counts.

    Lin et al., ICCV 2017, for several labels by way of their softmax; of regions each channel for itself. Without their
    alpha, a weight for each class: Dice beside it balances them.
    """
    wrong = 1 - torch.exp(-level.entropy)
    return level.mean(wrong**FOCAL_GAMMA * level.entropy)


def top_entropy(level: Level) -> Tensor:
    """Cross-entropy of the tenth of the voxels of each sample where it is highest.

    Wu et al., arXiv 1605.06885, 2016 (online bootstrapping). Taken sample by sample, it is the same in whichever parts
    the batch is computed. Of voxels that are not judged none is among the tenth, and it is a tenth of the others.
    """
    entropy, judged = level.entropy.flatten(1), level.judged(level.entropy)
    most = math.ceil(TOP_SHARE * entropy.shape[1])
    if judged is None:
        return level.part.mean(entropy.topk(most, dim=1).values.mean())
    judged = judged.flatten(1)
    highest = entropy.masked_fill(~judged, 0).topk(most, dim=1).values
    counts = (TOP_SHARE * judged.sum(dim=1)).ceil()
    return level.part.mean_of(highest, torch.arange(most, device=highest.device) < counts[:, None])


def border_weighted_entropy(level: Level) -> Tensor:
    """Cross-entropy weighted by the border map of the target: a weighted mean over voxels.

    Ronneberger et al., MICCAI 2015; the map is made with the batch, see ``border_weights.py``.
    """
    weights = level.maps.border_weights
    if weights is None:
        raise ValueError("the loss border-weighted needs the border weights of the target; make batches with its maps")
    entropy = level.entropy
    if entropy.ndim > weights.ndim:
        weights = weights[:, None].expand_as(entropy)
    judged = level.judged(entropy)
    weights = weights.to(entropy.dtype) if judged is None else weights.to(entropy.dtype) * judged
    total = level.part.total
    return total((weights * entropy).sum()) / total(weights.sum()).clamp(min=SURE)

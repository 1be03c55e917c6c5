"""Sums weighted by a Gaussian of the distance, along one axis after the other, on any device.

Beyond the image there is nothing: weights are not normalised, so that of a volume of ones less is left near its faces.
Each axis is multiplied by a matrix of weights, most of which may be 0: matrix products are so fast that this beats a
convolution with as many taps many times over, also on a GPU. Long axes are cut into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

TRUNCATED = 4.5  # standard deviations; beyond, weights are below 4e-5
BLOCK = 128  # voxels of an axis that are computed together: in longer blocks more weights are 0


class GaussianFilter:
    """exp(-d^2 / 2) of distances d in standard deviations, summed up over volumes of a ``size``.

    ``sigmas`` are in voxels, one per axis.

    >>> line = torch.zeros(1, 1, 7); line[0, 0, 3] = 1
    >>> [round(weight, 3) for weight in GaussianFilter([1.0, 1.0], (1, 7))(line)[0, 0].tolist()]
    [0.011, 0.135, 0.607, 1.0, 0.607, 0.135, 0.011]
    """

    def __init__(self, sigmas: Sequence[float], size: Sequence[int], device: torch.device | str = "cpu"):
        self._blocks = [
            [block.to(device) for block in _blocks(sigma, length)] for sigma, length in zip(sigmas, size, strict=True)
        ]
        self._radii = [_radius(sigma) for sigma in sigmas]

    def __call__(self, values: Tensor) -> Tensor:
        """The sums for values (channels, *size), of their shape."""
        for axis, (radius, blocks) in enumerate(zip(self._radii, self._blocks, strict=True), start=1):
            if values.shape[axis] > 1:
                values = _along(values, axis, radius, blocks)
        return values


def _along(values: Tensor, axis: int, radius: int, blocks: Sequence[Tensor]) -> Tensor:
    """Sums along one axis, block after block, each of them from its own neighbourhood."""
    length, inner = values.shape[axis], math.prod(values.shape[axis + 1 :])
    lines = values.reshape(-1, length, inner)
    sums = []
    for (first, last), weights in zip(_bounds(length), blocks, strict=True):
        near = lines[:, max(0, first - radius) : last + radius]
        sums.append(near.squeeze(-1) @ weights.t() if inner == 1 else weights @ near)
    return (sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)).view(values.shape)


def _blocks(sigma: float, length: int) -> list[Tensor]:
    """Weights (voxels of a block, voxels of its neighbourhood) float32 of all blocks of an axis."""
    radius, place = _radius(sigma), torch.arange(length, dtype=torch.float64)
    blocks = []
    for first, last in _bounds(length):
        distance = place[first:last, None] - place[max(0, first - radius) : last + radius]
        weights = (-0.5 * (distance / sigma) ** 2).exp()
        blocks.append(weights.masked_fill_(distance.abs() > radius, 0).float())
    return blocks


def _bounds(length: int) -> list[tuple[int, int]]:
    """First voxel of each block of an axis, and the one after its last."""
    return list(pairwise((*range(0, length, BLOCK), length)))


def _radius(sigma: float) -> int:
    return max(1, round(TRUNCATED * sigma))

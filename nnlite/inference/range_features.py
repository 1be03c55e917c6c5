"""A Gaussian of intensity differences as a sum of products, for any number of channels.

exp(-|x - y|^2 / 2) is close to phi_1(x) phi_1(y) + .. + phi_m(x) phi_m(y), where the phi come from an incomplete
Cholesky factorisation of the kernel with pivots (Fine and Scheinberg, Journal of Machine Learning Research 2, 2001; to
filter: Nair and Chaudhury, IEEE Transactions on Image Processing 2019, with another choice of points). A weight
is off by no more than those on the diagonal, of a voxel with itself, of which each is looked at; pivots are added until
they are right: Gaussians need few, and channels that go together (red, green, blue) hardly more than one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

TOLERANCE = 1e-5  # of a weight, which is at most 1
MOST_FEATURES = 256  # beyond, the error grows: many channels, and a narrow Gaussian
SAMPLED_VOXELS = 4096  # that pivots are chosen from at a time, spread evenly over those whose weights are still off
TOLD_RESIDUAL = 0.01  # an error of weights that may move a mask
VOXELS_AT_ONCE = 2**16  # whose distances to all pivots are held at once

logger = logging.getLogger(__name__)


class RangeFeatures:
    """The phi of an image (channels, *size) whose unit is the standard deviation of the Gaussian.

    ``of_itself`` is the weight of each voxel with itself, (*size): nearly 1. ``residual`` is what it lacks at most, and
    with it the weight of any two voxels.
    """

    def __init__(self, image: Tensor, tolerance: float = TOLERANCE):
        self._image = image.flatten(1).t()  # (voxels, channels)
        self._size = image.shape[1:]
        self._kept: Tensor | None = None
        self._pivots = self._image[:0].double()
        self._factor = self._image.new_zeros(0, 0, dtype=torch.float64)  # Cholesky's, of the pivots' kernel
        self._inverse = self._factor
        residual = torch.ones(len(self._image), device=image.device)
        while self.count < MOST_FEATURES and float(residual.max()) > tolerance:
            # first what is far off: there may not be features enough to make the rest as exact as that
            level = max(tolerance, TOLD_RESIDUAL) if float(residual.max()) > TOLD_RESIDUAL else tolerance
            off = (residual > level).nonzero().flatten()
            number = min(len(off), SAMPLED_VOXELS)
            # in integers: float32 rounds the last place of more than 2^24 voxels to one that is not there
            evenly = torch.arange(number, device=image.device) * (len(off) - 1) // max(number - 1, 1)
            sample = self._image[torch.cat([residual.argmax()[None], off[evenly]])]
            self._add_pivots(sample.double(), level)
            residual = self._residual()
        self.of_itself, self.residual = (1 - residual).view(self._size), float(residual.max())
        if self.residual > TOLD_RESIDUAL:
            logger.warning(
                "the appearance term of the CRF is off by up to %.2g: %d channels differ too much from each other for "
                "a Gaussian this narrow; widen it, or leave channels out",
                self.residual,
                image.shape[0],
            )

    @property
    def count(self) -> int:
        """How many features there are."""
        return len(self._pivots)

    def volumes(self, first: int, last: int, *, keep: bool) -> Iterator[Tensor]:
        """The features from ``first`` up to ``last``, (*size) each; kept for the next time if so wished."""
        values = self._kept if self._kept is not None else self._values(first, last)
        if keep and self._kept is None:
            self._kept = values
        for feature in values:
            yield feature.view(self._size)

    def _residual(self) -> Tensor:
        """What the weight of each voxel with itself lacks, (voxels) float32."""
        parts = self._image.split(VOXELS_AT_ONCE)
        own = [self._part(part, 0, self.count).square_().sum(dim=0) for part in parts]
        return torch.cat([(1 - one).clamp_(min=0).float() for one in own])

    def _values(self, first: int, last: int) -> Tensor:
        values = torch.empty(last - first, len(self._image), device=self._image.device)
        for begin in range(0, len(self._image), VOXELS_AT_ONCE):
            part = slice(begin, begin + VOXELS_AT_ONCE)
            values[:, part] = self._part(self._image[part], first, last)
        return values

    def _part(self, voxels: Tensor, first: int, last: int) -> Tensor:
        """Features (last - first, voxels) in double precision."""
        return self._inverse[first:last, :last] @ _kernel(self._pivots[:last], voxels.double())

    def _add_pivots(self, sample: Tensor, tolerance: float) -> None:
        """Go on with the factorisation, by a pivot at least, until no voxel of a sample (n, channels) is off."""
        before, chosen = self.count, list[int]()
        features = self._inverse @ _kernel(self._pivots, sample)
        residual = 1 - features.square().sum(dim=0)
        while not chosen or (float(residual.max()) > tolerance and before + len(chosen) < MOST_FEATURES):
            pivot = int(residual.argmax())
            row = _kernel(sample[pivot : pivot + 1], sample) - features[:, pivot] @ features
            row /= residual[pivot].sqrt()
            features = torch.cat([features, row])
            residual -= row[0].square()
            chosen.append(pivot)
            residual[chosen] = 0
        factor = torch.zeros(len(features), len(features), dtype=torch.float64, device=sample.device)
        factor[:before, :before] = self._factor
        factor[before:] = features[:, chosen].t().tril(before)
        self._factor, self._pivots = factor, torch.cat([self._pivots, sample[chosen]])
        self._inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False)


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    """exp(-|x - y|^2 / 2) of each pair of points, (len(one), len(other))."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square_().mul_(-0.5).exp_()

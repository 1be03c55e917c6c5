"""A Gaussian of intensity differences as a sum of products, for any number of channels.

exp(-|x - y|^2 / 2) is close to phi_1(x) phi_1(y) + .. + phi_m(x) phi_m(y), where the phi come from an incomplete
Cholesky factorisation of the kernel with pivots (Fine and Scheinberg, Journal of Machine Learning Research 2, 2001; to
filter: Nair and Chaudhury, IEEE Transactions on Image Processing 2019, with another choice of points). The error
of each weight is at most the largest residual on the diagonal, which is known, so pivots are added until it is small:
Gaussians need few, and channels that go together (red, green, blue) hardly more than one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

TOLERANCE = 1e-5  # of a weight, which is at most 1
MOST_FEATURES = 256  # beyond, the error grows: many channels, and a narrow Gaussian
SAMPLED_VOXELS = 4096  # that pivots are chosen from, spread evenly; the extremes of each channel are always among them
TOLD_RESIDUAL = 0.01  # an error of weights that may move a mask
VOXELS_AT_ONCE = 2**18  # whose distances to all pivots are held at once

logger = logging.getLogger(__name__)


class RangeFeatures:
    """The phi of an image (channels, *size) whose unit is the standard deviation of the Gaussian.

    ``residual`` is the largest error of a weight between sampled voxels.
    """

    def __init__(self, image: Tensor, tolerance: float = TOLERANCE):
        self._image = image.flatten(1).t()  # (voxels, channels)
        self._size = image.shape[1:]
        self._kept: Tensor | None = None
        self._pivots, self._inverse, self.residual = _pivots(_sample(self._image), tolerance)
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

    def of_itself(self) -> Tensor:
        """The weight of each voxel with itself, (*size): nearly 1."""
        if self._kept is not None:
            return self._kept.square().sum(dim=0).view(self._size)
        parts = [self._part(part, 0, self.count).square().sum(dim=0) for part in self._image.split(VOXELS_AT_ONCE)]
        return torch.cat(parts).view(self._size)

    def _values(self, first: int, last: int) -> Tensor:
        values = torch.empty(last - first, len(self._image), device=self._image.device)
        for begin in range(0, len(self._image), VOXELS_AT_ONCE):
            part = slice(begin, begin + VOXELS_AT_ONCE)
            values[:, part] = self._part(self._image[part], first, last)
        return values

    def _part(self, voxels: Tensor, first: int, last: int) -> Tensor:
        """Features (last - first, voxels) float32."""
        weights = _kernel(self._pivots[:last], voxels.double())
        return (self._inverse[first:last, :last] @ weights).float()


def _sample(voxels: Tensor) -> Tensor:
    """Voxels (n, channels) that pivots are chosen from, in double precision."""
    evenly = voxels[torch.linspace(0, len(voxels) - 1, SAMPLED_VOXELS, device=voxels.device).long().unique()]
    extremes = torch.cat([voxels.argmin(dim=0), voxels.argmax(dim=0)])
    return torch.cat([evenly, voxels[extremes]]).double()


def _pivots(sample: Tensor, tolerance: float) -> tuple[Tensor, Tensor, float]:
    """Pivots (m, channels), the inverse of their Cholesky factor (m, m), and the largest residual that is left."""
    residual = torch.ones(len(sample), dtype=torch.float64, device=sample.device)
    rows: list[Tensor] = []
    chosen: list[int] = []
    while len(chosen) < MOST_FEATURES and float(residual.max()) > tolerance:
        pivot = int(residual.argmax())
        row = _kernel(sample[pivot : pivot + 1], sample)[0]
        if rows:
            before = torch.stack(rows)
            row = row - before[:, pivot] @ before
        row = row / residual[pivot].sqrt()
        residual = (residual - row.square()).clamp_(min=0)
        residual[pivot] = 0
        rows.append(row)
        chosen.append(pivot)
    factor = torch.stack(rows)[:, chosen].t().tril()
    identity = torch.eye(len(chosen), dtype=torch.float64, device=sample.device)
    return sample[chosen], torch.linalg.solve_triangular(factor, identity, upper=False), float(residual.max())


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    """exp(-|x - y|^2 / 2) of each pair of points, (len(one), len(other))."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square_().mul_(-0.5).exp_()

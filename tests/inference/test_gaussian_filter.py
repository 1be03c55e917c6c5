"""The separable filter is the sum over all voxels, weighted by a Gaussian of their distance."""

from __future__ import annotations

import pytest
import torch

from nnlite.inference.gaussian_filter import BLOCK, TRUNCATED, GaussianFilter


@pytest.mark.parametrize("size", [(9, 40, 35), (1, 70, 33), (1, 2 * BLOCK + 70, 5)])
def test_it_is_the_weighted_sum_over_all_voxels(size: tuple[int, ...]):
    sigmas = (1.0, 2.5, 4.0)
    values = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    expected = values.double()
    for axis, sigma in enumerate(sigmas, start=1):
        place = torch.arange(size[axis - 1], dtype=torch.float64)
        weights = (-0.5 * ((place[:, None] - place) / sigma) ** 2).exp()
        expected = torch.tensordot(expected, weights, dims=([axis], [0])).movedim(-1, axis)
    assert (GaussianFilter(sigmas, size)(values) - expected).abs().max() < 2e-3 * expected.abs().max()


def test_beyond_its_reach_there_is_nothing():
    line = torch.zeros(1, 100)
    line[0, 50] = 1
    found = GaussianFilter([2.0], (100,))(line)[0]
    assert found.nonzero().flatten().tolist() == list(range(50 - round(TRUNCATED * 2), 50 + round(TRUNCATED * 2) + 1))

"""A bias field is smooth and positive, and leaves black and what lies outside alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from chances import CT, chance, same_in_shares

from nnlite.training.augmentation.bias_field import bias_field, multiply_bias_field
from nnlite.training.augmentation.imaging import Imaging

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [(64, 48), (24, 32, 40)])
def test_a_field_is_positive_smooth_and_as_strong_as_drawn(size: tuple[int, ...]) -> None:
    for seed in range(5):
        logarithm = bias_field(np.random.default_rng(seed), size, 0.5, CPU).log()
        assert logarithm.abs().max().item() == pytest.approx(0.5, abs=1e-5)
        assert logarithm.mean().item() == pytest.approx(0, abs=1e-5)
        for axis in range(len(size)):  # third order: the fourth difference of a polynomial is nothing
            assert logarithm.double().diff(n=4, dim=axis).abs().max() < 1e-5


def test_a_sample_is_multiplied_above_its_darkest_voxel_by_one_field_for_all_channels() -> None:
    before = torch.rand(8, 2, 12, 16, generator=torch.Generator().manual_seed(0)) - 2
    after = multiply_bias_field(before.clone(), chance(before, (0.4, 0.4)))
    black = before.amin((2, 3), keepdim=True)
    assert torch.allclose(after.amin((2, 3), keepdim=True), black)
    bright = before > black + 0.2
    factors = ((after - black) / (before - black)).where(bright, torch.nan)
    both = bright.all(dim=1)
    assert torch.allclose(factors[:, 0][both], factors[:, 1][both], atol=1e-3)
    assert factors[bright].min() >= math.exp(-0.4) - 1e-3
    assert factors[bright].max() <= math.exp(0.4) + 1e-3
    assert factors[bright].std() > 0.05


def test_zeros_and_ct_stay() -> None:
    before = torch.randn(4, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    before[:, 0, :4] = 0
    after = multiply_bias_field(before.clone(), chance(before, (0.4, 0.4), imaging=Imaging(hounsfield=(None, CT))))
    assert not after[:, 0, :4].any()
    assert torch.equal(after[:, 1], before[:, 1])
    assert not torch.equal(after[:, 0], before[:, 0])


def test_shares_of_a_batch_are_those_of_the_whole() -> None:
    assert same_in_shares(multiply_bias_field, torch.randn(6, 2, 8, 9, 10), (0.1, 0.5))

"""Weights of windows add up to one, and a band that has moved on starts with what was begun."""

from __future__ import annotations

import pytest
import torch

from nnlite.inference.blending import GaussianBand, WindowGrid, blending_weights, gaussian_weight, move_to_front
from nnlite.inference.sliding_window import window_starts


def test_gaussian_falls_to_e_to_the_minus_half_at_one_sigma_from_the_centre() -> None:
    # window 17: centre at voxel 8, sigma 17 / 8 = 2.125; two voxels off: exp(-(2 / 2.125)^2 / 2) = exp(-0.44291)
    weight = gaussian_weight(17)
    assert weight[8] == 1
    assert weight[10].item() == pytest.approx(0.64216, abs=1e-5)
    assert torch.equal(weight, weight.flip(0))


def test_weights_add_up_to_one_at_every_voxel() -> None:
    starts = window_starts(50, 16)
    total = torch.zeros(50)
    for start, weights in zip(starts, blending_weights(50, 16, starts), strict=True):
        total[start : start + 16] += weights
    torch.testing.assert_close(total, torch.ones(50))


def test_a_region_is_counted_from_the_top_of_the_band() -> None:
    grid = WindowGrid(size=(9, 6, 4), window=(4, 6, 4), starts=((0, 3, 5), (0,), (0,)))
    assert grid.corner((1, 0, 0)) == (3, 0, 0)
    assert grid.region((1, 0, 0), top=3) == (slice(None), slice(0, 4), slice(0, 6), slice(0, 4))


def test_slices_that_were_begun_move_to_the_front_and_the_others_are_empty() -> None:
    volumes = torch.arange(1.0, 6.0).view(1, 5, 1, 1).repeat(2, 1, 1, 1)
    move_to_front(volumes, finished=2, begun=3)
    assert volumes[1].flatten().tolist() == [3, 4, 5, 0, 0]


def test_a_band_that_moves_on_goes_on_with_the_same_weights() -> None:
    grid = WindowGrid(size=(6, 1, 1), window=(4, 1, 1), starts=((0, 2), (0,), (0,)))
    band = GaussianBand(grid, labels=1, depth=4, device=torch.device("cpu"))
    band.add((0, 0, 0), torch.full((1, 4, 1, 1), 5.0))
    assert band.finished(2).flatten().tolist() == [5, 5]  # seen by the first window alone
    band.move_on(2, begun=2)
    band.add((1, 0, 0), torch.full((1, 4, 1, 1), 5.0))
    torch.testing.assert_close(band.finished(4).flatten(), torch.full((4,), 5.0))

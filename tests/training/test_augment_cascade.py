"""Low-resolution predictions are disturbed as often and as far as they should be, and never beyond recognition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nnlite.training.augment_cascade import disturb_previous, grow


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def cubes() -> Tensor:
    """Label 1: two cubes of 5 voxels and one of 3, far apart; label 2: a slab of half the volume."""
    label = torch.zeros(32, 32, 32, dtype=torch.int64)
    label[2:7, 2:7, 2:7] = label[2:7, 22:27, 2:7] = label[3:6, 3:6, 24:27] = 1
    label[16:] = 2
    return label


@pytest.mark.parametrize("ndim", [2, 3])
def test_growing_adds_a_cube_around_each_voxel(ndim: int) -> None:
    mask = torch.zeros((9,) * ndim)
    mask[(4,) * ndim] = 1
    grown = grow(mask, 2)
    assert grown.sum() == 5**ndim
    assert grown[(slice(2, 7),) * ndim].all()


def test_half_of_the_samples_stay_as_they_are() -> None:
    before = cubes().expand(200, -1, -1, -1)
    kept = (disturb_previous(before, rng()) == before).flatten(1).all(dim=1).float().mean().item()
    assert 0.35 < kept < 0.75  # 0.6 x 0.8 = 0.48 without a draw; opening a slab, or finding nothing small, adds some


def test_single_components_disappear_but_never_the_main_organ() -> None:
    before = cubes()
    samples = disturb_previous(before.expand(200, -1, -1, -1), rng())
    removed = [sample for sample in samples if ((sample != before) <= (before == 1)).all()]
    sizes = {int(((before == 1) & (sample != 1)).sum()) for sample in removed}
    assert {125, 27} <= sizes
    assert all((sample == 2).sum() > (before == 2).sum() / 2 for sample in samples)


def test_no_other_label_loses_voxels_to_one_that_grows() -> None:
    before = cubes()
    for sample in disturb_previous(before.expand(100, -1, -1, -1), rng()):
        assert sample[before == 1].ne(2).all()
        assert sample[before == 2].ne(1).all()


def test_background_stays_background_and_the_type_stays() -> None:
    empty = torch.zeros(20, 8, 8, 8, dtype=torch.int64)
    assert torch.equal(disturb_previous(empty, rng()), empty)
    assert disturb_previous(cubes()[None], rng()).dtype == torch.int64


def test_the_original_is_left_alone_and_the_seed_decides() -> None:
    before = cubes().repeat(20, 1, 1, 1)
    copy = before.clone()
    first, again, other = (disturb_previous(before, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(before, copy)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)

"""Occlusion takes boxes out of the image and leaves the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from chances import chance, same_in_shares

from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.augmentation.imaging import Imaging
from nnlite.training.augmentation.occlusion import MOST_BOXES, occlude
from nnlite.training.augmentation.presets import NOISE, OCCLUSION


@pytest.mark.parametrize("size", [(20, 30), (10, 20, 30)])
def test_boxes_of_the_channel_s_mean_take_the_share_that_was_drawn(size: tuple[int, ...]) -> None:
    before = torch.randn(30, 2, *size, generator=torch.Generator().manual_seed(0))
    after = occlude(before.clone(), chance(before, (0.2, 0.2)))
    gone = after != before
    assert torch.equal(gone[:, 0], gone[:, 1])  # in all channels the same voxels
    share = gone[:, 0].float().flatten(1).mean(dim=1)
    one = 0.2 ** len(size)
    assert share.min().item() == pytest.approx(one, rel=0.01)
    assert one < share.max() <= MOST_BOXES * one * 1.01
    for old, new, where in zip(before, after, gone, strict=True):
        for channel in range(2):
            filled = new[channel][where[channel]]
            assert torch.equal(filled, filled[:1].expand_as(filled))
            assert torch.allclose(filled[0], old[channel].mean(), atol=1e-5)


def test_a_box_takes_at_least_a_voxel() -> None:
    before = torch.randn(4, 1, 3, 3)
    after = occlude(before.clone(), chance(before, (0.01, 0.01)))
    assert (after != before).flatten(1).any(dim=1).all()


def test_masks_are_hidden_where_the_image_is_and_places_never() -> None:
    noise, places = replace(NOISE, probability=1.0), (2, 3, 4)
    augmentation = Augmentation(
        steps=(noise, replace(OCCLUSION, probability=1.0), noise), imaging=Imaging(masks=(1,), places=places)
    )
    before = torch.rand(6, 5, 20, 20)
    after = augmentation.change(before.clone(), np.random.default_rng(0))
    assert torch.equal(after[:, 2:], before[:, 2:])
    assert not torch.equal(after[:, 0], before[:, 0])
    hidden = after[:, 1] != before[:, 1]
    for old, new, where in zip(before[:, 1], after[:, 1], hidden, strict=True):
        assert 0 < where.float().mean() < 0.5
        assert torch.allclose(new[where], old.mean(), atol=1e-5)


def test_shares_of_a_batch_are_those_of_the_whole() -> None:
    assert same_in_shares(occlude, torch.randn(6, 2, 8, 9, 10), (0.1, 0.5))

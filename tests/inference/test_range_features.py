"""Products of features are Gaussians of intensity differences, as near as was asked for."""

from __future__ import annotations

import logging

import pytest
import torch

from nnlite.inference.range_features import MOST_FEATURES, RangeFeatures


def weights(features: RangeFeatures) -> torch.Tensor:
    every = torch.stack([*features.volumes(0, features.count, keep=False)]).flatten(1)
    return every.t() @ every


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5])
def test_no_weight_is_off_by_more_than_the_tolerance(tolerance: float):
    image = 3 * torch.randn(1, 20, 30, generator=torch.Generator().manual_seed(0))
    features = RangeFeatures(image, tolerance)
    values = image.flatten()
    expected = (-0.5 * (values[:, None] - values) ** 2).exp()
    assert features.residual <= tolerance
    assert (weights(features) - expected).abs().max() <= tolerance + 1e-6
    assert torch.allclose(features.of_itself, torch.ones(20, 30), atol=tolerance + 1e-6)


@pytest.mark.parametrize("size", [(512, 512), (64, 64, 64)])
def test_a_structure_that_lies_between_voxels_spread_evenly_has_its_weights(size: tuple[int, ...]):
    image = 0.1 * torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    middle = tuple(slice(20, 40) for _ in size)
    image[0][middle] += 2
    image[0, ..., -1] += 5  # what is brighter must not be all that is looked at
    features = RangeFeatures(image / 0.25)
    own = torch.zeros(size)
    for feature in features.volumes(0, features.count, keep=False):
        own += feature.square()
    assert own.min() > 1 - 2e-5
    assert features.residual <= 1e-5


def test_channels_that_are_alike_need_few_more_features_than_one():
    grey = 4 * torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(0))
    assert RangeFeatures(grey.repeat(3, 1, 1)).count <= 2 * RangeFeatures(grey).count


def test_an_image_of_one_value_needs_one_feature():
    assert RangeFeatures(torch.full((1, 5, 5), 7.0)).count == 1


def test_images_of_more_voxels_than_float32_can_count_are_sampled_within_their_bounds():
    voxels = 2**24 + 4  # the fewest whose last place float32 rounds up to one that is not there
    assert RangeFeatures(torch.zeros(1, 4, voxels // 4)).count == 1


def test_channels_that_need_more_features_than_there_may_be_are_told_of(caplog: pytest.LogCaptureFixture):
    noise = 6 * torch.randn(4, 40, 40, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING):
        assert RangeFeatures(noise).count == MOST_FEATURES
    assert "the appearance term of the CRF is off by up to" in caplog.text

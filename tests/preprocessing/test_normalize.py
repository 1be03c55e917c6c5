"""Each scheme does what its name says, and wrong intensities are told to the user."""

from __future__ import annotations

import pytest
import torch

from nnlite.errors import ImageError, PlanError
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.preprocessing.normalize import normalize

DATASET = IntensityProperties(
    mean=100.0, median=90.0, std=50.0, min=-1000.0, max=2000.0, percentile_00_5=-50.0, percentile_99_5=300.0
)


def one_row(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def test_ct_is_clipped_to_the_datasets_percentiles_and_scaled_by_its_mean_and_std():
    # -1000 -> -50 -> -150 / 50 = -3; 100 -> 0; 150 -> 1; 2000 -> 300 -> 200 / 50 = 4
    normalized = normalize(one_row(-1000, 100, 150, 2000), ["ct"], [DATASET])
    assert normalized.flatten().tolist() == [-3, 0, 1, 4]


def test_zscore_gives_each_channel_mean_zero_and_population_std_one():
    image = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0)) * 30 + 1000
    normalized = normalize(image, ["zscore", "zscore"], [DATASET, DATASET])
    torch.testing.assert_close(normalized.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.std(dim=(1, 2, 3), correction=0), torch.ones(2))


def test_zscore_with_a_mask_counts_its_voxels_alone_and_leaves_the_others_at_zero():
    image = torch.cat([one_row(0, 0, 10, 30), one_row(0, 0, 10, 30)])
    mask = one_row(0, 0, 1, 1)[0].bool()
    normalized = normalize(image, ["zscore", "zscore"], [DATASET] * 2, mask=mask, use_mask=[True, False])
    # within the mask: mean 20, std 10; the whole: mean 10, std sqrt((100 + 100 + 0 + 400) / 4) = 12.247
    assert normalized[0].flatten().tolist() == [0, 0, -1, 1]
    torch.testing.assert_close(normalized[1].flatten(), torch.tensor([-10.0, -10, 0, 20]) / 12.247449)


def test_zscore_of_an_empty_mask_changes_nothing():
    mask = torch.zeros(1, 1, 2, dtype=torch.bool)
    assert normalize(one_row(0, 0), ["zscore"], [DATASET], mask=mask, use_mask=[True]).flatten().tolist() == [0, 0]


@pytest.mark.parametrize("scheme", ["zscore", "rescale_to_0_1"])
def test_a_constant_channel_becomes_zero(scheme):
    assert normalize(one_row(5, 5, 5), [scheme], [DATASET]).flatten().tolist() == [0, 0, 0]


def test_rescaling_maps_the_channels_own_range_to_0_1():
    assert normalize(one_row(-10, 0, 30), ["rescale_to_0_1"], [DATASET]).flatten().tolist() == [0, 0.25, 1]


def test_each_channel_has_its_own_scheme_and_the_image_given_stays_as_it_was():
    image = torch.cat([one_row(0, 255), one_row(0, 255), one_row(100, 150)]).to(torch.float32)
    before = image.clone()
    normalized = normalize(image, ["rgb_to_0_1", "none", "ct"], [DATASET] * 3)
    assert normalized.flatten(1).tolist() == [[0, 1], [0, 255], [0, 1]]
    assert torch.equal(image, before)


@pytest.mark.parametrize("values", [(0, 65535), (-1, 20)])
def test_colours_beyond_8_bits_are_refused_with_their_range_and_a_way_out(values):
    with pytest.raises(ImageError, match=rf"from {values[0]} to {values[1]}.*nnlite\.json"):
        normalize(one_row(*values), ["rgb_to_0_1"], [DATASET])


def test_an_unknown_scheme_names_those_there_are():
    with pytest.raises(PlanError, match=r"'log'.*ct, zscore"):
        normalize(one_row(1), ["log"], [DATASET])

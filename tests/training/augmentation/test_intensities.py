"""Each of nnU-Net's transforms befalls as many samples as it should and keeps what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from chances import as_in_nnunet
from scipy import ndimage
from torch import Tensor

from nnlite.training.augmentation.intensities import gaussian_blur

SAMPLES = 400


@pytest.fixture
def images() -> Tensor:
    noise = torch.randn(SAMPLES, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    return 3 + 2 * gaussian_blur(noise.flatten(0, 1), torch.ones(2 * SAMPLES)).view_as(noise)


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Which samples and channels differ: (samples, channels)."""
    return (before != after).flatten(2).any(dim=2)


def assert_share(chosen: Tensor, probability: float) -> None:
    """Four standard deviations around the expected share of samples."""
    limit = 4 * math.sqrt(probability * (1 - probability) / len(chosen))
    assert chosen.float().mean().item() == pytest.approx(probability, abs=limit)


def test_noise_has_a_standard_deviation_of_a_tenth_at_most(images: Tensor) -> None:
    after = as_in_nnunet(images, "Gaussian noise")
    which = changed(images, after).any(dim=1)
    assert_share(which, 0.1)
    sigma = (after - images)[which].flatten(1).std(dim=1)
    assert 0.08 < sigma.max() < 0.11
    assert sigma.min() < 0.03


@pytest.mark.parametrize("shape", [(9, 10), (7, 8, 9)])
def test_gaussian_blur_is_that_of_scipy(shape: tuple[int, ...]) -> None:
    volumes, sigma = torch.randn(3, *shape), torch.tensor([0.5, 0.8, 1.0])
    for got, volume, width in zip(gaussian_blur(volumes, sigma), volumes, sigma.tolist(), strict=True):
        wanted = ndimage.gaussian_filter(volume.numpy(), width, mode="nearest", radius=3)
        assert np.abs(got.numpy() - wanted).max() < 1e-5


def test_blur_befalls_single_channels(images: Tensor) -> None:
    after = as_in_nnunet(images, "blur")
    which = changed(images, after)
    assert_share(which[:, 0], 0.2 * 0.5)
    assert_share(which.any(dim=1), 0.2 * 0.75)  # of the chosen samples one in four has no chosen channel
    assert (after.flatten(2).std(2) < images.flatten(2).std(2))[which].all()


def test_brightness_is_one_factor_per_sample(images: Tensor) -> None:
    after = as_in_nnunet(images, "brightness")
    which = changed(images, after).any(dim=1)
    assert_share(which, 0.15)
    factors = (after / images)[which].flatten(1)
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-4)
    assert factors.min() >= 0.7499
    assert factors.max() <= 1.2501
    assert factors[:, 0].std() > 0.1  # uniform over 0.5: 0.144


def test_contrast_keeps_the_range_and_stretches_around_the_mean(images: Tensor) -> None:
    after = as_in_nnunet(images, "contrast")
    which = changed(images, after).any(dim=1)
    assert_share(which, 0.15)
    for old, new in zip(images[which].flatten(0, 1), after[which].flatten(0, 1), strict=True):
        assert new.min() >= old.min()
        assert new.max() <= old.max()
        free = (new > old.min()) & (new < old.max()) & ((old - old.mean()).abs() > 0.1)
        factors = ((new - old.mean()) / (old - old.mean()))[free]
        assert factors.max() - factors.min() < 1e-2
        assert 0.74 < factors.mean() < 1.26


def test_lower_resolution_keeps_size_and_range_and_takes_detail_away(images: Tensor) -> None:
    after = as_in_nnunet(images, "low resolution")
    which = changed(images, after)
    assert 0.05 < which.any(dim=1).float().mean() < 0.25
    assert (after.flatten(2).amax(2) <= images.flatten(2).amax(2) + 1e-5).all()
    assert (after.flatten(2).amin(2) >= images.flatten(2).amin(2) - 1e-5).all()
    assert (after.diff(dim=-1).flatten(2).norm(dim=2) < images.diff(dim=-1).flatten(2).norm(dim=2))[which].all()


def test_lower_resolution_stays_at_its_place() -> None:
    ramp = torch.arange(32.0).repeat(60, 1, 32, 1)
    after = as_in_nnunet(ramp, "low resolution")
    assert changed(ramp, after).any()
    assert (after - ramp)[..., 3:-3].abs().max() <= 1.01  # half a coarse voxel
    assert (after - ramp)[..., 3:-3].mean((1, 2, 3)).abs().max() < 0.3


@pytest.mark.parametrize(("name", "probability"), [("gamma", 0.3), ("inverted gamma", 0.1)])
def test_gamma_keeps_mean_and_standard_deviation_and_the_order(images: Tensor, name: str, probability: float) -> None:
    after = as_in_nnunet(images, name)
    which = changed(images, after).any(dim=1)
    assert_share(which, probability)
    assert torch.allclose(after.flatten(2).mean(2), images.flatten(2).mean(2), atol=1e-4)
    assert torch.allclose(after.flatten(2).std(2), images.flatten(2).std(2), rtol=1e-3)
    old, new = images[which].flatten(2), after[which].flatten(2)
    assert (new.gather(2, old.argsort(2)).diff(dim=2) >= -1e-5).all()


def test_inverted_gamma_is_gamma_of_the_negative(images: Tensor) -> None:
    inverted = as_in_nnunet(images, "inverted gamma", probability=1)
    assert torch.allclose(inverted, -as_in_nnunet(-images, "gamma", probability=1))


@pytest.mark.parametrize("name", ["blur", "contrast", "low resolution", "gamma", "inverted gamma"])
def test_a_constant_image_stays_as_it_is(name: str) -> None:
    constant = torch.full((50, 1, 6, 6), 2.5)
    assert torch.allclose(as_in_nnunet(constant, name, probability=1), constant, atol=1e-5)


def test_gamma_by_the_formula() -> None:
    images = torch.randn(3, 2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    exponents = np.random.default_rng(0)
    exponents.random(3)  # the draw of the samples comes first
    got = as_in_nnunet(images, "gamma", probability=1)
    for old, new, exponent in zip(images, got, exponents.uniform(0.7, 1.5, size=3), strict=True):
        for channel, bent in zip(old.double(), new.double(), strict=True):
            wanted = ((channel - channel.min()) / (channel.max() - channel.min())) ** exponent
            wanted = (wanted - wanted.mean()) / wanted.std() * channel.std() + channel.mean()
            assert torch.allclose(bent, wanted, atol=1e-5)

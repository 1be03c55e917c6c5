"""Turned patches equal the turned volume, and each transform keeps what it promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from nnlite.training.augment import (
    Augmentation,
    Batch,
    add_noise,
    assemble,
    blur,
    gamma,
    gaussian_blur,
    lower_resolution,
    mirror,
    scale_brightness,
    scale_contrast,
)
from nnlite.training.patches import Patch, draw_pose, read_region, region_size

CPU = torch.device("cpu")


# poses


def posed_patch(volume: np.ndarray, label: np.ndarray, centre: np.ndarray, size: tuple, pose: np.ndarray) -> Batch:
    """Read the region of a patch around ``centre`` (in voxels, halves for even sizes) and pose it."""
    region = region_size(size, pose)
    start = tuple(int(c - (r - 1) / 2) for c, r in zip(centre, region, strict=True))
    patch = Patch(
        case_id="case",
        image=read_region(volume[None], start, region),
        label=read_region(label, start, region),
        pose=pose,
    )
    return assemble([patch], size, CPU)


def some_pose(size: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    while (pose := draw_pose(rng, size)) is None or np.count_nonzero(pose) == len(size) or np.linalg.det(pose) == 1:
        pass
    return pose


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("shape", "size"), [((50, 50), (16, 21)), ((40, 41, 42), (12, 9, 14)), ((20, 60, 60), (5, 16, 16))]
)
def test_a_posed_patch_equals_the_patch_of_the_turned_volume(shape: tuple, size: tuple, seed: int) -> None:
    volume = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    centre = np.array([n // 2 + (s - 1) / 2 % 1 for n, s in zip(shape, size, strict=True)])
    pose = some_pose(size, seed)
    turned = ndimage.affine_transform(volume, pose, offset=centre - pose @ centre, order=1)
    start = [int(c - (s - 1) / 2) for c, s in zip(centre, size, strict=True)]
    batch = posed_patch(volume, np.zeros(shape, np.uint8), centre, size, pose)
    assert batch.images.shape == (1, 1, *size)
    assert np.abs(batch.images[0, 0].numpy() - read_region(turned, start, size)).max() < 1e-4


def test_a_posed_patch_reads_an_analytic_volume_where_the_pose_points() -> None:
    z, y, x = np.indices((40, 40, 40), dtype=np.float32)
    volume = np.sin(z / 6) + np.cos(y / 5) - np.sin((x + z) / 7)
    size, centre, pose = (9, 9, 9), np.array([20, 18, 21]), some_pose((9, 9, 9), 7)
    offsets = np.moveaxis(np.indices(size) - 4, 0, -1)
    z, y, x = np.moveaxis(centre + offsets @ pose.T, -1, 0)
    wanted = np.sin(z / 6) + np.cos(y / 5) - np.sin((x + z) / 7)
    got = posed_patch(volume, np.zeros(volume.shape, np.uint8), centre, size, pose).images[0, 0].numpy()
    assert np.abs(got - wanted).max() < 0.02  # linear interpolation: second derivative / 8 per axis


@pytest.mark.parametrize("size", [(16, 15), (8, 9, 10), (2, 8, 8)])
def test_the_identity_pose_is_a_plain_read(size: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image, label = rng.normal(size=(2, *size)).astype(np.float32), rng.integers(0, 5, size).astype(np.uint8)
    posed, plain = (
        assemble([Patch(case_id="case", image=image, label=label, pose=pose)], size, CPU)
        for pose in (np.eye(len(size)), None)
    )
    assert torch.allclose(posed.images, plain.images, atol=1e-5)
    assert torch.equal(posed.labels, plain.labels)


def test_a_flat_patch_keeps_its_slices() -> None:
    volume = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None, None], (20, 60, 60))
    batch = posed_patch(
        volume, volume.astype(np.uint8), np.array([10, 29.5, 29.5]), (5, 16, 16), some_pose((5, 16, 16), 1)
    )
    for depth in range(5):
        assert torch.allclose(batch.images[0, 0, depth], torch.tensor(8.0 + depth), atol=1e-4)
        assert (batch.labels[0, depth] == 8 + depth).all()


@pytest.mark.parametrize("seed", range(3))
def test_labels_and_the_previous_stage_move_with_the_image(seed: int) -> None:
    shape = (24, 24, 24)
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2) > 0
    pose = some_pose((10, 10, 10), seed)
    region = region_size((10, 10, 10), pose)
    cut = tuple(slice(0, size) for size in region)
    patch = Patch(
        case_id="case",
        image=mask[cut][None].astype(np.float32),
        label=(mask[cut] * 7).astype(np.uint8),
        previous=(~mask[cut] * 3).astype(np.int16),
        pose=pose,
    )
    batch = assemble([patch], (10, 10, 10), CPU)
    clear = (batch.images[0, 0] - 0.5).abs() > 1e-3  # elsewhere either label may win
    wanted = batch.images[0, 0] > 0.5
    assert batch.previous is not None
    assert wanted.any()
    assert torch.equal(batch.labels[0][clear], (wanted * 7)[clear])
    assert torch.equal(batch.previous[0][clear], (~wanted * 3)[clear])
    assert batch.labels.dtype == batch.previous.dtype == torch.int64


def test_patches_with_and_without_a_pose_make_one_batch() -> None:
    image, label = np.ones((2, 8, 8), np.float32), np.ones((8, 8), np.uint8)
    large = Patch(
        case_id="a", image=np.ones((2, 12, 12), np.float32), label=np.ones((12, 12), np.uint8), pose=np.eye(2)
    )
    batch = assemble([large, Patch(case_id="b", image=image, label=label)], (8, 8), CPU)
    assert batch.images.shape == (2, 2, 8, 8)
    assert batch.labels.shape == (2, 8, 8)
    assert batch.previous is None


# intensities

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


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_noise_has_a_standard_deviation_of_a_tenth_at_most(images: Tensor) -> None:
    after = add_noise(images.clone(), rng(), torch.Generator().manual_seed(1))
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
    after = blur(images.clone(), rng())
    which = changed(images, after)
    assert_share(which[:, 0], 0.2 * 0.5)
    assert_share(which.any(dim=1), 0.2 * 0.75)  # of the chosen samples one in four has no chosen channel
    assert (after.flatten(2).std(2) < images.flatten(2).std(2))[which].all()


def test_brightness_is_one_factor_per_sample(images: Tensor) -> None:
    after = scale_brightness(images.clone(), rng())
    which = changed(images, after).any(dim=1)
    assert_share(which, 0.15)
    factors = (after / images)[which].flatten(1)
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-4)
    assert factors.min() >= 0.7499
    assert factors.max() <= 1.2501
    assert factors[:, 0].std() > 0.1  # uniform over 0.5: 0.144


def test_contrast_keeps_the_range_and_stretches_around_the_mean(images: Tensor) -> None:
    after = scale_contrast(images.clone(), rng())
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
    after = lower_resolution(images.clone(), rng())
    which = changed(images, after)
    assert 0.05 < which.any(dim=1).float().mean() < 0.25
    assert (after.flatten(2).amax(2) <= images.flatten(2).amax(2) + 1e-5).all()
    assert (after.flatten(2).amin(2) >= images.flatten(2).amin(2) - 1e-5).all()
    assert (after.diff(dim=-1).flatten(2).norm(dim=2) < images.diff(dim=-1).flatten(2).norm(dim=2))[which].all()


def test_lower_resolution_stays_at_its_place() -> None:
    ramp = torch.arange(32.0).repeat(60, 1, 32, 1)
    after = lower_resolution(ramp.clone(), rng())
    assert changed(ramp, after).any()
    assert (after - ramp)[..., 3:-3].abs().max() <= 1.01  # half a coarse voxel
    assert (after - ramp)[..., 3:-3].mean((1, 2, 3)).abs().max() < 0.3


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_keeps_mean_and_standard_deviation_and_the_order(images: Tensor, inverted: bool) -> None:
    after = gamma(images.clone(), rng(), probability=0.3, inverted=inverted)
    which = changed(images, after).any(dim=1)
    assert_share(which, 0.3)
    assert torch.allclose(after.flatten(2).mean(2), images.flatten(2).mean(2), atol=1e-4)
    assert torch.allclose(after.flatten(2).std(2), images.flatten(2).std(2), rtol=1e-3)
    old, new = images[which].flatten(2), after[which].flatten(2)
    assert (new.gather(2, old.argsort(2)).diff(dim=2) >= -1e-5).all()


def test_inverted_gamma_is_gamma_of_the_negative(images: Tensor) -> None:
    inverted = gamma(images.clone(), rng(), probability=1, inverted=True)
    assert torch.allclose(inverted, -gamma(-images, rng(), probability=1, inverted=False))


@pytest.mark.parametrize(
    "transform",
    [
        blur,
        scale_contrast,
        lower_resolution,
        partial(gamma, probability=1, inverted=False),
        partial(gamma, probability=1, inverted=True),
    ],
)
def test_a_constant_image_stays_as_it_is(transform: Callable) -> None:
    constant = torch.full((50, 1, 6, 6), 2.5)
    assert torch.allclose(transform(constant.clone(), rng()), constant, atol=1e-5)


# mirroring and the whole


def test_mirroring_flips_image_label_and_previous_alike_on_each_axis_half_of_the_time() -> None:
    labels = torch.arange(24).view(2, 3, 4).repeat(600, 1, 1, 1)
    batch = Batch(images=labels[:, None].float().clone(), labels=labels.clone(), previous=labels.clone())
    after = mirror(batch, rng(), (0, 2))
    assert after.previous is not None
    assert torch.equal(after.images[:, 0].long(), after.labels)
    assert torch.equal(after.previous, after.labels)
    first = after.labels[:, 0, 0, 0]  # tells the flips: 0 none, 3 along x, 12 along z, 15 both
    assert set(first.tolist()) == {0, 3, 12, 15}
    assert_share(first % 12 == 3, 0.5)
    assert_share(first >= 12, 0.5)


def test_no_axes_no_mirroring() -> None:
    labels = torch.arange(8).view(1, 2, 4).repeat(20, 1, 1)
    after = mirror(Batch(images=labels[:, None].float(), labels=labels.clone()), rng(), ())
    assert torch.equal(after.labels, labels)


@pytest.mark.parametrize("size", [(12, 10), (6, 8, 10)])
def test_augmentation_keeps_sizes_and_label_values_and_is_a_function_of_its_seed(size: tuple[int, ...]) -> None:
    images, labels = torch.randn(16, 2, *size), torch.randint(0, 3, (16, *size))
    augmentation = Augmentation(mirror_axes=range(len(size)), device=CPU)

    def augmented(*seed: int) -> Batch:
        augmentation.reseed(*seed)
        return augmentation(Batch(images=images.clone(), labels=labels.clone()))

    first, again, other = augmented(5, 1), augmented(5, 1), augmented(5, 2)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == images.shape
    assert first.images.isfinite().all()
    assert torch.equal(first.labels.flatten(1).sort(1).values, labels.flatten(1).sort(1).values)

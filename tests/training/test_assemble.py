"""A batch holds patches as they were read, turned ones as the turned volume has them, all mirrored as drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from nnlite.training.assemble import (
    Batch,
    _joined,
    _shares,
    _winner,
    _winner_of_few,
    assemble,
    elect,
    interpolate,
    sampling,
)
from nnlite.training.augmentation.spatial import draw_pose, region_size
from nnlite.training.patches import Patch, read_region

CPU = torch.device("cpu")


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


# against the general sampler of torch, and against counting


def reference_grid(pose: np.ndarray, patch_size: tuple[int, ...], region: tuple[int, ...]) -> Tensor:
    """Places of all voxels of a patch as ``grid_sample`` wants them, written out voxel by voxel."""
    places = []
    for voxel in itertools.product(*map(range, patch_size)):
        offset = np.array(voxel) - (np.array(patch_size) - 1) / 2
        places.append((pose @ offset / ((np.array(region) - 1) / 2))[::-1])
    return torch.tensor(np.array(places), dtype=torch.float32).view(1, *patch_size, len(region))


CASES = [((9, 12), 0), ((12, 10), 1), ((6, 7, 8), 2), ((9, 6, 10), 3), ((3, 12, 12), 4)]


@pytest.mark.parametrize(("size", "seed"), CASES)
def test_interpolation_is_that_of_torch(size: tuple[int, ...], seed: int) -> None:
    pose = some_pose(size, seed)
    region = region_size(size, pose)
    volume = torch.randn(region, generator=torch.Generator().manual_seed(seed))
    grid = reference_grid(pose, size, region)
    wanted = functional.grid_sample(volume[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
    got = interpolate(volume[None], sampling(pose[None], size, np.array([region]), CPU)).view(size)
    assert torch.allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize(("size", "seed"), CASES)
def test_the_label_with_the_largest_share_wins(size: tuple[int, ...], seed: int) -> None:
    pose = some_pose(size, seed)
    region = region_size(size, pose)
    label = torch.randint(0, 4, region, generator=torch.Generator().manual_seed(seed))
    one_hot = functional.one_hot(label, 4).movedim(-1, 0).float()
    grid = reference_grid(pose, size, region)
    shares = functional.grid_sample(one_hot[None], grid, padding_mode="border", align_corners=True)[0]
    first, second = shares.topk(2, dim=0).values
    clear = first - second > 1e-4  # elsewhere rounding decides
    got = elect(label.to(torch.uint8)[None], sampling(pose[None], size, np.array([region]), CPU)).view(size)
    assert clear.float().mean() > 0.95
    assert torch.equal(got.long()[clear], shares.argmax(dim=0)[clear])


def test_patches_with_regions_of_several_sizes_are_interpolated_together_as_each_alone() -> None:
    size, rng = (6, 7, 8), np.random.default_rng(0)
    poses = [some_pose(size, seed) for seed in (2, 5)] + [np.diag([1.3, 1.3, -0.8])]
    regions = [region_size(size, pose) for pose in poses]
    assert len(set(regions)) == 3
    volumes = [rng.normal(size=region).astype(np.float32) for region in regions]
    labels = [rng.integers(0, 4, region).astype(np.uint8) for region in regions]
    together = sampling(np.stack(poses), size, np.array(regions), CPU)
    image, label = interpolate(_joined(volumes, CPU), together), elect(_joined(labels, CPU), together)
    for row, (pose, region) in enumerate(zip(poses, regions, strict=True)):
        alone = sampling(pose[None], size, np.array([region]), CPU)
        assert torch.equal(interpolate(torch.from_numpy(volumes[row])[None], alone), image.view(3, -1)[row])
        assert torch.equal(elect(torch.from_numpy(labels[row])[None], alone), label.view(3, -1)[row])


def test_of_labels_with_equal_shares_the_lowest_wins() -> None:
    label = torch.tensor([[7, 3], [3, 7]], dtype=torch.uint8)  # all four voxels are as near to the middle
    where = sampling(np.eye(2)[None], (1, 1), np.array([[2, 2]]), CPU)
    assert elect(label[None], where).tolist() == [3]


def test_a_region_of_one_slice_is_its_own_neighbour() -> None:
    volume = torch.arange(9.0).view(1, 3, 3)
    where = sampling(np.eye(3)[None], (1, 3, 3), np.array([[1, 3, 3]]), CPU)
    assert torch.equal(interpolate(volume[None], where), volume.flatten())


# flips


@pytest.mark.parametrize("flips", [(), (0,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("turned", [False, True])
def test_flips_mirror_image_label_and_previous_whatever_the_pose(flips: tuple[int, ...], turned: bool) -> None:
    size = (6, 7, 8)
    pose = some_pose(size, 3) if turned else None
    region = region_size(size, pose)
    rng = np.random.default_rng(0)
    parts = {
        "image": rng.normal(size=(2, *region)).astype(np.float32),
        "label": rng.integers(0, 4, region).astype(np.uint8),
        "previous": rng.integers(0, 300, region).astype(np.int16),
    }
    plain, mirrored = (
        assemble([Patch(case_id="case", pose=pose, flips=axes, **parts)], size, CPU) for axes in ((), flips)
    )
    assert plain.previous is not None
    assert mirrored.previous is not None
    assert torch.allclose(mirrored.images[0], plain.images[0].flip([axis + 1 for axis in flips]), atol=1e-4)
    for got, before in ((mirrored.labels, plain.labels), (mirrored.previous, plain.previous)):
        assert (got[0] == before[0].flip(flips)).float().mean() > 0.99  # rounding may decide a tie otherwise


def test_patches_are_left_as_they_were_read() -> None:
    image, label = np.ones((1, 8, 8), np.float32), np.ones((8, 8), np.uint8)
    for array in (image, label):
        array.flags.writeable = False  # as those of a mapped case
    batch = assemble([Patch(case_id="case", image=image, label=label)], (8, 8), CPU)
    batch.images.zero_()
    batch.labels.zero_()
    assert image.all()
    assert label.all()


def test_the_counts_for_a_gpu_and_for_a_cpu_give_the_same_label() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 5, (8, 2000), generator=generator, dtype=torch.uint8)
    weights = [torch.rand(2000, generator=generator) for _ in range(3)]
    weights[0][:500] = weights[1][:500] = 0.5  # ties
    shares = _shares(weights)
    assert torch.equal(_winner_of_few(corners, shares), _winner(corners, shares))
    assert torch.equal(_winner_of_few(corners[:, :0], shares[:, :0]), corners[0, :0])

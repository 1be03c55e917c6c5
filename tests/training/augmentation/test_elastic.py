"""Elastic deformations move labels with their image, smoothly, without folding; those of no strength do nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nnlite.training.assemble import assemble
from nnlite.training.augmentation.elastic import (
    displacement_fields,
    draw_displacements,
    largest_displacement,
    reach,
)
from nnlite.training.augmentation.spatial import region_size
from nnlite.training.patches import Patch

CPU = torch.device("cpu")
SIZES = [(24, 20), (12, 16, 14), (5, 24, 24)]


def drawn(size: tuple[int, ...], seed: int, std_voxels: float = 3.0, **others) -> np.ndarray:
    return draw_displacements(np.random.default_rng(seed), size, points=3, std_voxels=std_voxels, **others)


def deformed(size: tuple[int, ...], displacements: np.ndarray, seed: int = 0, flips: tuple[int, ...] = ()) -> Patch:
    """A region with a voxel's own label in the label map, and the same in the image."""
    region = region_size(size, np.eye(len(size)), displacements)
    label = np.random.default_rng(seed).integers(0, 3, region).astype(np.uint8)
    for axis in range(label.ndim):
        label = np.repeat(label, 3, axis=axis)  # small patches of a label each, so that there are voxels inside
    label = label[tuple(slice(0, length) for length in region)]
    return Patch(
        case_id="case",
        image=label[None].astype(np.float32),
        label=label,
        pose=np.eye(len(size)),
        displacements=displacements,
        flips=flips,
    )


@pytest.mark.parametrize("size", SIZES)
def test_no_strength_is_the_identity(size: tuple[int, ...]) -> None:
    still = drawn(size, 0, std_voxels=0.0)
    assert not still.any()
    patch = deformed(size, still)
    plain = replace(patch, pose=None, displacements=None)
    moved, stayed = (assemble([one], size, CPU) for one in (patch, plain))
    assert torch.allclose(moved.images, stayed.images, atol=1e-5)
    assert torch.equal(moved.labels, stayed.labels)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("flips", [(), (0,), (1,), (0, 1)])
def test_a_marked_voxel_stays_inside_its_label(size: tuple[int, ...], flips: tuple[int, ...]) -> None:
    batch = assemble([deformed(size, drawn(size, 1), flips=flips)], size, CPU)
    nearly = (batch.images[0, 0] - batch.images[0, 0].round()).abs() < 1e-3  # all corners have one label
    assert nearly.float().mean() > 0.05
    wanted = batch.images[0, 0].round().long()
    mixed = batch.labels[0] != wanted  # between the labels 0 and 2 the image may be 1, which no corner is
    assert (mixed & nearly).float().sum() <= 0.02 * nearly.float().sum()


@pytest.mark.parametrize("size", SIZES)
def test_the_flipped_patch_is_the_mirror_image_of_the_deformed_one(size: tuple[int, ...]) -> None:
    plain, mirrored = (
        assemble([deformed(size, drawn(size, 2, in_plane=size[0] == 5), flips=flips)], size, CPU).images[0, 0]
        for flips in ((), (0, 1))
    )
    assert torch.allclose(mirrored, plain.flip(0, 1), atol=1e-4)


def test_a_patch_is_read_where_the_displacement_points() -> None:
    size = (16, 16)
    displacements = np.zeros((2, 3, 3))
    displacements[0, 1, 1] = 1.5  # the middle comes from further down
    region = region_size(size, np.eye(2), displacements)
    rows = np.broadcast_to(np.arange(region[0], dtype=np.float32)[:, None], region)
    patch = Patch(
        case_id="case",
        image=rows[None],
        label=np.zeros(region, np.uint8),
        pose=np.eye(2),
        displacements=displacements,
    )
    got = assemble([patch], size, CPU).images[0, 0]
    plain = torch.arange(16.0)[:, None] + (region[0] - 16) / 2
    assert torch.allclose(got - plain, displacement_fields(displacements, size, CPU)[0], atol=1e-4)
    assert (got - plain).amax() == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("size", [*SIZES, (40, 8)])
def test_nothing_folds_however_strong_the_displacements(size: tuple[int, ...]) -> None:
    for seed in range(20):
        fields = displacement_fields(drawn(size, seed, std_voxels=1000.0), size, CPU)
        place = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in size], indexing="ij")) + fields
        inner = tuple(slice(0, n - 1) for n in size)
        columns = [place.diff(dim=axis + 1)[(slice(None), *inner)] for axis in range(len(size))]
        assert torch.linalg.det(torch.stack(columns).movedim((0, 1), (-1, -2))).min() > 0


@pytest.mark.parametrize("size", SIZES)
def test_no_voxel_is_displaced_beyond_the_reach(size: tuple[int, ...]) -> None:
    for seed in range(10):
        displacements = drawn(size, seed)
        fields = displacement_fields(displacements, size, CPU).flatten(1)
        assert (fields.abs().amax(dim=1).numpy() <= reach(displacements, size) + 1e-5).all()


def test_displacements_of_a_large_tile_have_the_standard_deviation_of_the_paper() -> None:
    many = np.stack([drawn((572, 572), seed, std_voxels=10.0) for seed in range(300)])
    assert many.std() == pytest.approx(10, rel=0.05)  # 5400 numbers: their standard deviation is known within 1 %
    assert np.abs(many).max() < largest_displacement((572, 572), (3, 3))  # nothing was cut off


def test_coarser_axes_are_displaced_by_as_many_millimetres_and_flat_patches_in_plane_only() -> None:
    spacing = (4.0, 1.0, 1.0)
    many = np.stack([drawn((128, 128, 128), seed, std_voxels=2.0, spacing_mm=spacing) for seed in range(200)])
    assert many[:, 0].std() * 4 == pytest.approx(many[:, 1].std(), rel=0.1)
    flat = drawn((5, 64, 64), 0, spacing_mm=spacing, in_plane=True)
    assert flat.shape == (3, 1, 3, 3)
    assert not flat[0].any()
    assert flat[1:].all()

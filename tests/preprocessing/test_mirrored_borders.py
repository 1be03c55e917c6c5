"""Beyond its borders a case goes on as its mirror image, as far as is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnlite.preprocessing.mirrored_borders import extend_by_mirroring, mirrored_places, read_mirrored

BOXES = [((0, 0), (4, 5)), ((-3, 2), (6, 3)), ((2, 4), (9, 8)), ((-9, -1), (20, 9)), ((-7, 11), (2, 3))]


@pytest.mark.parametrize(("start", "size"), BOXES)
def test_a_region_is_cut_from_what_numpy_pads_symmetrically(start: tuple[int, ...], size: tuple[int, ...]) -> None:
    volume = np.random.default_rng(0).normal(size=(2, 4, 5))
    padded = np.pad(volume, ((0, 0), (20, 20), (20, 20)), mode="symmetric")
    box = tuple(slice(20 + first, 20 + first + length) for first, length in zip(start, size, strict=True))
    assert np.array_equal(read_mirrored(volume, start, size), padded[:, *box])


def test_a_region_inside_is_a_view() -> None:
    volume = np.zeros((2, 4, 5))
    assert np.shares_memory(read_mirrored(volume, (1, 0), (2, 5)), volume)


def test_an_image_is_extended_as_regions_of_it_are_read() -> None:
    image = torch.randn(2, 3, 4, 1)
    extended = extend_by_mirroring(image, (4, 0, 2), (1, 5, 2))
    assert torch.equal(extended, torch.from_numpy(read_mirrored(image.numpy(), (-4, 0, -2), (8, 9, 5))))


def test_an_axis_of_one_voxel_repeats_it() -> None:
    assert mirrored_places(-3, 7, 1).tolist() == [0] * 7

"""Files written in parts are read back by others as they were meant, wherever their axes point."""

from __future__ import annotations

import os
import tempfile
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnlite.data import nifti
from nnlite.data.image import Geometry, StoredGrid, read_image, write_image
from nnlite.data.nifti import channels_written
from nnlite.errors import ImageError, WorkspaceError

SHAPE, SPACING_MM, ORIGIN_MM = (4, 5, 6), (2.5, 1.25, 0.7), (-30.0, 12.5, 7.25)
TURN = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
DIRECTIONS = [
    TURN[list(axes)] * np.array(signs) for axes in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
]


def stored_at(direction: np.ndarray, folder: Path) -> StoredGrid:
    """The grid of an image file whose axes point in these directions."""
    rows = [tuple(map(float, row)) for row in direction]
    geometry = Geometry(shape=SHAPE, spacing_mm=SPACING_MM, origin_mm=ORIGIN_MM, direction=(rows[0], rows[1], rows[2]))
    write_image(folder / "image.mha", np.zeros((1, *SHAPE), np.uint8), geometry)
    return read_image(folder / "image.mha").stored


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_parts_written_in_any_order_lie_in_the_patient_where_the_image_lies(direction: np.ndarray, tmp_path: Path):
    grid = stored_at(direction, tmp_path)
    whole = np.random.default_rng(0).random((3, *grid.canonical_shape), dtype=np.float32)
    with channels_written(tmp_path / "parts.nii", grid, background=[0.0] * 3) as write:
        for start in (2, 0):
            region = (slice(start, start + 2), slice(None), slice(None))
            write(region, whole[(slice(None), *region)])
        write((slice(4, 9), slice(None), slice(None)), whole[:, 4:9])
    read = read_image(tmp_path / "parts.nii")
    assert read.stored.geometry.differences(grid.geometry) == []
    np.testing.assert_array_equal(read.array, whole)


def test_the_file_is_what_other_readers_call_a_series_of_volumes(tmp_path: Path):
    grid = stored_at(np.eye(3), tmp_path)
    with channels_written(tmp_path / "parts.nii", grid, background=[1.0, 0.0]):
        pass
    image = SimpleITK.ReadImage(str(tmp_path / "parts.nii"))
    assert image.GetSize() == (6, 5, 4, 2)
    assert image.GetSpacing()[:3] == pytest.approx(SPACING_MM[::-1])
    assert image.GetOrigin()[:3] == pytest.approx(ORIGIN_MM[::-1])
    assert (tmp_path / "parts.nii").stat().st_size == 352 + 2 * 4 * 5 * 6 * 4


def test_where_nothing_is_written_there_is_background(tmp_path: Path):
    grid = stored_at(np.eye(3), tmp_path)
    with channels_written(tmp_path / "parts.nii", grid, background=[1.0, 0.25]) as write:
        write((slice(1, 2), slice(0, 5), slice(3, 4)), np.full((2, 1, 5, 1), 0.5, np.float32))
    expected = np.stack([np.ones(SHAPE), np.full(SHAPE, 0.25)])
    expected[:, 1, :, 3] = 0.5
    np.testing.assert_array_equal(read_image(tmp_path / "parts.nii").array, expected)


def test_a_picture_s_channels_are_written_as_one_slice(tmp_path: Path):
    geometry = Geometry(shape=(1, 5, 6), spacing_mm=(999.0, 1.0, 1.0))
    write_image(tmp_path / "picture.png", np.zeros((1, 1, 5, 6), np.uint8), geometry, planar=True)
    grid = read_image(tmp_path / "picture.png").stored
    with channels_written(tmp_path / "parts.nii", grid, background=[1.0, 0.0]):
        pass
    read = read_image(tmp_path / "parts.nii")
    assert read.array.shape == (2, 1, 5, 6)
    assert read.geometry.differences(geometry) == []


def test_a_file_that_was_not_finished_does_not_appear(tmp_path: Path):
    grid = stored_at(np.eye(3), tmp_path)
    with pytest.raises(KeyError), channels_written(tmp_path / "parts.nii", grid, background=[1.0]):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["image.mha"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device on which every write is refused")
def test_a_full_disk_is_told_of_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    grid = stored_at(np.eye(3), tmp_path)

    def on_a_full_disk(prefix: str, suffix: str, dir: Path) -> tuple[int, str]:
        path = Path(dir) / f"{prefix}full{suffix}"
        path.symlink_to("/dev/full")
        return os.open(path, os.O_WRONLY), str(path)

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    with (
        pytest.raises(WorkspaceError, match=r"the disk is full: .*parts\.nii"),
        channels_written(tmp_path / "parts.nii", grid, background=[1.0]),
    ):
        raise AssertionError("the work was begun")
    assert [path.name for path in tmp_path.iterdir()] == ["image.mha"]


def test_an_axis_too_long_for_the_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nifti, "LONGEST_AXIS", 5)
    grid = stored_at(np.eye(3), tmp_path)
    with (
        pytest.raises(ImageError, match="an axis of 6 voxels is too long for NIfTI, which holds 5"),
        channels_written(tmp_path / "parts.nii", grid, background=[1.0]),
    ):
        raise AssertionError("the work was begun")

"""Reading and writing keeps every voxel at its place in the patient: 48 orientations, and axes oblique to the body."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnlite.data.image import Geometry, StoredGrid, read_image, write_image, write_mask
from nnlite.data.nifti import channels_written

ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]
OBLIQUE = [(0.2, -0.15, 0.1), (0.7, 0.0, 0.0), (-0.4, 0.5, 0.6)]  # radians about x, y, z
SHAPE, SPACING_MM, ORIGIN_MM = (3, 4, 5), (3.0, 0.5, 0.75), (-7.0, 11.0, 40.0)
VOXELS = np.arange(60, dtype=np.uint8).reshape(SHAPE)
PLACE_TOLERANCE_MM = 1e-4  # headers of NIfTI hold float32


def turned_by(angles: tuple[float, float, float]) -> np.ndarray:
    transform = SimpleITK.Euler3DTransform()
    transform.SetRotation(*angles)
    return np.reshape(transform.GetMatrix(), (3, 3))


def directions() -> list[np.ndarray]:
    """All permutations and flips of the axes, and each oblique turn of some of them."""
    straight = [np.eye(3)[list(axes)] * np.array(signs) for axes, signs in ORIENTATIONS]
    return straight + [turned_by(angles) @ matrix for angles in OBLIQUE for matrix in (straight[0], straight[13])]


DIRECTIONS = directions()


def in_file(path: Path, direction: np.ndarray) -> SimpleITK.Image:
    """The file of a scanner with these axes (x, y, z), written without nnlite."""
    image = SimpleITK.GetImageFromArray(VOXELS)
    image.SetSpacing(SPACING_MM[::-1])
    image.SetOrigin(ORIGIN_MM[::-1])
    image.SetDirection(direction.ravel().tolist())
    SimpleITK.WriteImage(image, str(path))
    return image


def by_value(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The place (z, y, x) in mm of the voxel with each value, in the order of the values."""
    indices = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = np.array(geometry.origin_mm) + (indices * geometry.spacing_mm) @ np.array(geometry.direction).T
    return points[np.argsort(array.ravel())]


def expected_places(image: SimpleITK.Image) -> np.ndarray:
    """The same as SimpleITK says, which knows nothing of nnlite."""
    size = image.GetSize()
    points = {
        image[x, y, z]: image.TransformIndexToPhysicalPoint((x, y, z))[::-1]
        for z in range(size[2])
        for y in range(size[1])
        for x in range(size[0])
    }
    return np.array([points[value] for value in sorted(points)])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_what_is_read_lies_where_the_scanner_put_it(tmp_path, suffix):
    for number, direction in enumerate(DIRECTIONS):
        scanned = in_file(tmp_path / f"{number}{suffix}", direction)
        image = read_image(tmp_path / f"{number}{suffix}")
        found = by_value(image.array, image.geometry)
        np.testing.assert_allclose(found, expected_places(scanned), atol=PLACE_TOLERANCE_MM)
        largest = np.abs(np.array(image.geometry.direction)).argmax(axis=1)
        assert largest.tolist() == [0, 1, 2] or number >= len(ORIENTATIONS)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_mask_lies_on_the_voxels_of_its_image_in_the_order_of_the_file(tmp_path, suffix):
    for number, direction in enumerate(DIRECTIONS):
        path, mask = tmp_path / f"{number}{suffix}", tmp_path / f"mask_{number}{suffix}"
        scanned = in_file(path, direction)
        image = read_image(path)
        write_mask(mask, image.array[0], like=image)  # as predict does, with the image's values for labels
        written = SimpleITK.ReadImage(str(mask))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), VOXELS)
        np.testing.assert_allclose(expected_places(written), expected_places(scanned), atol=PLACE_TOLERANCE_MM)


def test_probabilities_written_in_parts_lie_on_the_voxels_of_their_image(tmp_path):
    for number, direction in enumerate(DIRECTIONS):
        scanned = in_file(tmp_path / f"{number}.nii.gz", direction)
        image = read_image(tmp_path / f"{number}.nii.gz")
        grid: StoredGrid = image.stored
        with channels_written(tmp_path / f"p_{number}.nii", grid, background=(0.0,)) as write:
            for z in range(len(image.array[0])):
                write((slice(z, z + 1), slice(None), slice(None)), image.array[:, z : z + 1].astype(np.float32))
        written = SimpleITK.ReadImage(str(tmp_path / f"p_{number}.nii"))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), VOXELS)
        np.testing.assert_allclose(expected_places(written), expected_places(scanned), atol=PLACE_TOLERANCE_MM)


def test_what_was_read_and_written_reads_the_same_again(tmp_path):
    for number, direction in enumerate(DIRECTIONS):
        in_file(tmp_path / f"{number}.nii.gz", direction)
        image = read_image(tmp_path / f"{number}.nii.gz")
        write_image(tmp_path / "again.nii.gz", image.array, image.geometry)  # in canonical order this time
        again = read_image(tmp_path / "again.nii.gz")
        np.testing.assert_array_equal(again.array, image.array)
        assert image.geometry.differences(again.geometry) == []

"""The order, distance and grid of slices, and what is no regular stack of them."""

from __future__ import annotations

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnlite.data.dicom.series import read_series
from nnlite.data.dicom.stack import Stack, stack
from nnlite.data.image import read_image
from nnlite.errors import ImageError
from nnlite.interop.dicom_objects import to_patient


def stacked(folder: Path) -> Stack:
    return stack(read_series(folder))


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """A rotation about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


angle = st.floats(-3.1, 3.1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(angles=st.tuples(angle, angle, angle))
def test_every_voxel_is_where_the_formula_of_dicom_puts_it(
    angles: tuple[float, float, float], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("turned")
    row, column, normal = rotation(angles).T
    made.write_series(folder, made.ramp(), orientation=[*row, *column])
    slices = stacked(folder)
    voxels = np.array([[0, 0, 0], [4, 5, 6], [2, 1, 3]])
    # PS3.3 C.7.6.2.1.1: position + column index * column spacing * row direction + row index * ..
    expected = np.array(made.ORIGIN_MM) + voxels * made.SPACING_MM @ np.stack([normal, column, row])
    np.testing.assert_allclose(to_patient(slices.geometry, voxels), expected, atol=0.01)


def test_the_order_comes_from_the_positions_not_from_names_or_numbers(tmp_path: Path):
    voxels = made.ramp()
    made.write_series(tmp_path, voxels)
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array[0], voxels - 1024)
    assert image.geometry.spacing_mm == pytest.approx(made.SPACING_MM)  # not the slice thickness of 99
    assert image.geometry.origin_mm == pytest.approx(made.ORIGIN_MM[::-1])


def test_sagittal_slices_become_a_canonical_volume(tmp_path: Path):
    voxels = made.ramp()
    made.write_series(tmp_path, voxels, orientation=(0, 1, 0, 0, 0, -1))  # rows run back, columns run down
    image = read_image(tmp_path)
    # normal = y cross -z = -x: slices run to the right, so left, the canonical x, is their reverse
    np.testing.assert_array_equal(image.array[0], (voxels - 1024)[::-1, ::-1].transpose(1, 2, 0))
    assert image.geometry.spacing_mm == pytest.approx((1.5, 0.75, 3.0))


def test_positions_rounded_by_the_scanner_are_no_gap(tmp_path: Path):
    made.write_series(tmp_path, made.ramp(), places_mm=(0.0, 0.6, 1.2, 1.9, 2.5))  # steps of 0.625 mm with one digit
    assert stacked(tmp_path).geometry.spacing_mm[0] == pytest.approx(0.625)


def test_missing_slices_are_counted_and_placed(tmp_path: Path):
    voxels = made.ramp((9, 6, 7))
    paths = made.write_series(tmp_path, voxels)
    for path in paths[3:5]:
        path.unlink()
    wanted = r"2 slices are missing \(slices are 3 mm apart, but not from -94\.00 to -85\.00 mm\); get the whole series"
    with pytest.raises(ImageError, match=wanted):
        read_image(tmp_path)
    with pytest.raises(ImageError, match=str(tmp_path)):
        read_image(tmp_path)


def test_slices_that_come_twice_are_named(tmp_path: Path):
    made.write_series(tmp_path, made.ramp(), places_mm=(0, 3, 6, 6, 9))
    with pytest.raises(
        ImageError, match=r"1 positions occur more than once \(-94\.00 mm; 00\d\.dcm and 00\d\.dcm\); re"
    ):
        stacked(tmp_path)


def test_two_phases_in_one_series_are_slices_that_come_twice(tmp_path: Path):
    made.write_series(tmp_path, made.ramp(), prefix="early")
    made.write_series(tmp_path, made.ramp(), prefix="late")
    with pytest.raises(ImageError, match=r"5 positions occur more than once .*keep the slices of one phase"):
        stacked(tmp_path)


def test_uneven_slices_are_refused_with_their_distances(tmp_path: Path):
    made.write_series(tmp_path, made.ramp(), places_mm=(0, 3, 6, 10.2, 14.4))
    with pytest.raises(ImageError, match=r"not evenly spaced \(3 to 4\.2 mm; .*resample it onto an even grid"):
        stacked(tmp_path)


def test_a_mix_of_orientations_sizes_or_spacings_is_refused(tmp_path: Path):
    made.write_series(tmp_path / "a", made.ramp())
    path = made.write_series(tmp_path / "a", made.ramp(), prefix="x", orientation=(0, 1, 0, 0, 0, -1))[0]
    for other in tmp_path.glob("a/x*"):
        if other != path:
            other.unlink()
    with pytest.raises(ImageError, match=r"mixes orientations \(5 with 1 0 0 0 1 0, 1 with 0 1 0 0 0 -1\).* keep the"):
        stacked(tmp_path / "a")
    made.write_series(tmp_path / "b", made.ramp())
    made.write_series(tmp_path / "b", made.ramp((2, 8, 8)), prefix="x", places_mm=(15, 18))
    with pytest.raises(ImageError, match=r"mixes slice sizes \(5 with 6 7, 2 with 8 8 voxels\)"):
        stacked(tmp_path / "b")
    made.write_series(tmp_path / "c", made.ramp())
    made.write_series(tmp_path / "c", made.ramp(), prefix="x", places_mm=range(15, 30, 3), PixelSpacing=[2, 2])
    with pytest.raises(ImageError, match=r"mixes pixel spacings \(5 with 1\.5 0\.75, 5 with 2 2 mm\)"):
        stacked(tmp_path / "c")


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path):
    paths = made.write_series(tmp_path, made.ramp())
    x, y, z = made.ORIGIN_MM
    for number, path in enumerate(paths):  # each slice 0.8 mm further back: atan(0.8 / 3) = 14.9 degrees
        made.change(path, ImagePositionPatient=[x, y + 0.8 * number, z + 3 * number])
    with pytest.raises(ImageError, match=r"sheared by 14\.9 degrees \(a tilted gantry\); correct the tilt"):
        stacked(tmp_path)


def test_directions_that_are_none_and_a_lone_slice_are_refused(tmp_path: Path):
    made.write_series(tmp_path / "a", made.ramp(), orientation=(1, 0, 0, 1, 0, 0))
    with pytest.raises(ImageError, match=r"is not two directions at a right angle; get the original series"):
        stacked(tmp_path / "a")
    made.write_series(tmp_path / "b", made.ramp()[:1])
    with pytest.raises(ImageError, match=r"has one slice, a volume needs at least two"):
        stacked(tmp_path / "b")
    made.write_series(tmp_path / "c", made.ramp(), PixelSpacing=[0, 1])
    with pytest.raises(ImageError, match=r"spacing .* is not positive; get the original series"):
        stacked(tmp_path / "c")

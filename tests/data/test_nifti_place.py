"""What is odd about NIfTI headers, beyond the files of ``test_broken_inputs.py``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite.data.geometry import Geometry
from nnlite.data.image import inspect_image, write_image
from nnlite.data.nifti_header import NiftiHeader, read_header
from nnlite.data.nifti_place import place, read_voxels

VOXELS = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)
GRID = Geometry(shape=(2, 3, 4), spacing_mm=(3.0, 2.0, 1.0), origin_mm=(-5.0, 6.0, 7.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.nii", VOXELS, GRID)
    return tmp_path / "a.nii"


@pytest.fixture
def header(path: Path) -> NiftiHeader:
    return read_header(path)


def leaning(header: NiftiHeader, shear: float, **changes: object) -> NiftiHeader:
    matrix = header.sform_matrix().copy()
    matrix[1, 0] += shear
    return replace(header, matrix=tuple(matrix.ravel()), qform=0, sform=1, **changes)


def test_a_good_header_gives_rise_to_nothing(header):
    judged = place(header)
    assert (judged.problem, judged.remarks, judged.straightened) == (None, (), None)


def test_slightly_leaning_axes_are_straightened_and_told_by_how_much(header):
    judged = place(leaning(header, 0.01))
    assert judged.problem is None
    assert judged.straightened.angle_deg == pytest.approx(0.573, abs=1e-3)  # arctan 0.01
    assert judged.straightened.geometry.spacing_mm == pytest.approx(GRID.spacing_mm, rel=1e-3)
    assert judged.straightened.geometry.origin_mm == pytest.approx(GRID.origin_mm, abs=0.05)


def test_a_rotation_stands_in_for_a_leaning_matrix(header):
    judged = place(replace(leaning(header, 0.01), qform=1))
    assert judged.straightened is None
    assert judged.remarks == ("its sform has axes that are not at right angles; its qform is used",)


def test_single_axes_need_no_spacing(header):
    assert place(replace(header, shape=(4, 3, 1), spacing_mm=(1.0, 2.0, 0.0), sform=0)).problem is None
    assert "is not positive" in place(replace(header, spacing_mm=(1.0, 2.0, 0.0), sform=0)).problem


def test_two_spacings_within_a_percent_are_one(header):
    assert place(replace(header, spacing_mm=(1.005, 2.0, 3.0), qform=0, sform=1)).problem is None
    assert "two spacings" in place(replace(header, spacing_mm=(1.02, 2.0, 3.0), qform=0, sform=1)).problem


def test_what_the_sform_says_can_stand_in_for_a_bad_spacing(header):
    judged = place(replace(header, spacing_mm=(0.0, 2.0, 3.0), qform=0, sform=1))
    assert "(its sform says (3, 2, 1) mm)" in judged.problem
    assert judged.corrected.differences(GRID) == []


def test_voxels_are_scaled_as_simpleitk_scales_them(path, header):
    scaled = replace(header, slope=2.0, intercept=-5.0)
    np.testing.assert_array_equal(read_voxels(path, scaled), 2.0 * VOXELS - 5)
    assert read_voxels(path, header).dtype == np.int16
    np.testing.assert_array_equal(read_voxels(path, header), VOXELS)


def test_a_fourth_axis_becomes_channels_and_single_axes_are_dropped(path, header):
    assert read_voxels(path, replace(header, shape=(4, 3, 1, 1, 2))).shape == (2, 1, 3, 4)
    for shape in [(4, 3, 1, 2), (4, 3, 1, 1, 2), (4, 3, 2, 1, 1)]:
        content = bytearray(path.read_bytes())
        content[40:56] = np.array([len(shape), *shape, *[1] * (7 - len(shape))], "<i2").tobytes()
        path.write_bytes(content)
        image = inspect_image(path)
        assert image.array.shape == ((2, 1, 3, 4) if 2 in shape[3:] else (1, 2, 3, 4))

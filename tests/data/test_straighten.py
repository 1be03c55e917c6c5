"""Axes that are nearly at right angles, and those that are not."""

from __future__ import annotations

import numpy as np
import pytest

from nnlite.data.geometry import Geometry, rows
from nnlite.data.straighten import farthest_corner_mm, straighten

SHAPE, SPACING_MM = (20, 100, 100), (2.0, 1.0, 1.0)


def leaning(shear: float, shape: tuple[int, int, int] = SHAPE) -> Geometry:
    """A grid whose axis x leans toward y by ``shear``."""
    axes = np.eye(3)
    axes[:, 2] = np.array([0, shear, 1]) / np.hypot(shear, 1)
    return Geometry(shape=shape, spacing_mm=SPACING_MM, origin_mm=(5.0, 6.0, 7.0), direction=rows(axes))


def test_right_angles_are_left_as_they_are():
    assert straighten(leaning(0.0)) is None
    assert straighten(leaning(5e-5)) is None  # rounding


def test_the_deviation_is_told_and_the_centre_stays():
    grid = leaning(0.01)
    straightened = straighten(grid)
    axes = np.array(straightened.geometry.direction)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert straightened.angle_deg == pytest.approx(np.degrees(np.arctan(0.01)), rel=1e-3)
    # each of two axes turns by half the angle, and a corner is 49.5 mm from the centre along each
    assert straightened.corner_mm == pytest.approx(0.005 * np.hypot(49.5, 49.5), rel=1e-2)
    middle = np.array([9.5, 49.5, 49.5]) * SPACING_MM
    before, after = (
        np.array(one.origin_mm) + np.array(one.direction) @ middle for one in (grid, straightened.geometry)
    )
    np.testing.assert_allclose(before, after, atol=1e-9)


def test_small_is_what_moves_no_corner_by_more_than_a_voxel():
    assert straighten(leaning(0.01)).small
    assert not straighten(leaning(0.04)).small  # 0.02 * 70 = 1.4 mm, voxels of 1 mm
    assert straighten(leaning(0.04, shape=(20, 30, 30))).small
    assert not straighten(leaning(0.2, shape=(2, 2, 2))).small  # 11 degrees are no rounding, however few the voxels
    assert not straighten(leaning(2e-4)).noticed


def test_axes_that_coincide_have_no_place():
    with pytest.raises(ValueError, match="lie in one plane or are empty"):
        straighten(leaning(1e5))


def test_grids_of_other_shapes_have_no_corners_in_common():
    assert farthest_corner_mm(leaning(0), leaning(0, shape=(20, 100, 99))) == np.inf

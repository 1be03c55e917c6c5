"""Smooth fields go through the numbers they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnlite.training.augmentation.fields import power_matrix, smooth_field, spline_matrix

CPU = torch.device("cpu")


@pytest.mark.parametrize("points", [2, 3, 5])
def test_a_spline_goes_through_its_points(points: int) -> None:
    matrix = spline_matrix(4 * (points - 1) + 1, points)  # every fourth voxel is a point
    assert np.allclose(matrix[::4], np.eye(points))


def test_splines_of_equal_numbers_are_constant() -> None:
    assert np.allclose(spline_matrix(17, 4).sum(axis=1), 1)
    assert spline_matrix(5, 1).tolist() == [[1]] * 5


@pytest.mark.parametrize("size", [(9, 5), (5, 9, 13)])
def test_a_field_has_its_numbers_at_the_points_of_its_grid_in_the_order_of_the_axes(size: tuple[int, ...]) -> None:
    grid = np.random.default_rng(0).normal(size=tuple(2 + axis for axis in range(len(size))))
    field = smooth_field(
        grid, [spline_matrix(length, points) for length, points in zip(size, grid.shape, strict=True)], CPU
    )
    assert field.shape == size
    corners = np.ix_(*[(0, length - 1) for length in size])
    ends = np.ix_(*[(0, points - 1) for points in grid.shape])
    assert np.allclose(field.numpy()[corners], grid[ends], atol=1e-6)


def test_powers_make_the_polynomial_of_their_coefficients() -> None:
    coefficients = np.zeros((3, 2))
    coefficients[2, 1], coefficients[0, 0] = 3.0, 1.0  # 1 + 3 y^2 x
    field = smooth_field(coefficients, [power_matrix(5, 2), power_matrix(3, 1)], CPU)
    y, x = torch.linspace(-1, 1, 5).view(-1, 1), torch.linspace(-1, 1, 3)
    assert torch.allclose(field, 1 + 3 * y**2 * x, atol=1e-6)

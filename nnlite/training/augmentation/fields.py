"""Smooth fields over a patch from a handful of numbers, as products of one small matrix per axis.

A coarse grid of values becomes a field by cubic splines through its points, a handful of coefficients by powers. Either
way the field is a tensor product: one matrix product per axis, cheap on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from nnlite.training.augmentation.chance import on_device


@lru_cache(maxsize=64)
def spline_matrix(length: int, points: int) -> np.ndarray:
    """Values at ``length`` voxels (rows) of the natural cubic splines that are 1 at one of ``points`` (columns).

    The points are spread from the first voxel to the last; one point means a constant, two a straight line.

    >>> spline_matrix(3, 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    if points == 1 or length == 1:
        return np.eye(points)[[0] * length]
    places = np.linspace(0, points - 1, length)
    return CubicSpline(np.arange(points), np.eye(points), bc_type="natural")(places)


@lru_cache(maxsize=64)
def power_matrix(length: int, order: int) -> np.ndarray:
    """Powers 0 to ``order`` (columns) of the place of each voxel (rows), from -1 at the first to 1 at the last.

    >>> power_matrix(3, 2).tolist()
    [[1.0, -1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    places = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
    return places[:, None] ** np.arange(order + 1)


def smooth_field(numbers: np.ndarray, matrices: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """The field (*size) float32 of ``numbers`` (*coarse), with a matrix (size, coarse) for each axis."""
    field = on_device(numbers.copy(), device, torch.float32)  # a flipped view has steps that torch does not know
    for matrix in matrices:  # takes the first axis away and puts its voxels last: after all axes the order is as before
        field = torch.tensordot(field, on_device(matrix, device, torch.float32), dims=([0], [1]))
    return field

"""Elastic deformation: random displacements on a coarse grid, smooth in between.

U-Net (Ronneberger, Fischer and Brox, MICCAI 2015) displaces the points of a 3 x 3 grid by Gaussian random numbers with
a standard deviation of 10 pixels and interpolates bicubically between them. Here the same with cubic splines, in two
and three dimensions. The displacement is added to where a patch is read, so that images are interpolated once, whatever
else turns them (see ``assemble.py``). Displacements are cut off where tissue could fold over itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nnlite.training.augmentation.fields import smooth_field, spline_matrix

WITHOUT_FOLDING = 0.9  # of the displacement from which on neighbouring voxels could change places


def draw_displacements(
    rng: np.random.Generator,
    patch_size: Sequence[int],
    *,
    points: int,
    std_voxels: float,
    spacing_mm: Sequence[float] = (),
    in_plane: bool = False,
) -> np.ndarray:
    """Displacements (ndim, *grid) in voxels, of a grid with ``points`` along each axis.

    ``std_voxels`` counts voxels of the axis with the finest spacing; along coarser ones fewer voxels are as many
    millimetres. ``in_plane`` leaves the first axis out: slices stay where they are, and all are deformed alike.
    """
    ndim = len(patch_size)
    grid = [1 if in_plane and axis == 0 else points for axis in range(ndim)]
    steps = np.asarray(spacing_mm or (1.0,) * ndim)
    scale = (steps[1:] if in_plane else steps).min() / steps
    if in_plane:
        scale[0] = 0
    drawn = rng.normal(0, std_voxels, size=(ndim, *grid)) * scale.reshape(-1, *(1,) * ndim)
    limit = largest_displacement(patch_size, grid)
    return drawn.clip(-limit, limit)


def largest_displacement(patch_size: Sequence[int], grid: Sequence[int]) -> float:
    """Displacement in voxels of grid points up to which a patch cannot fold, however they are displaced.

    The derivatives of the displacement then add up to less than 1 in each row, so that the deformation's matrix of
    derivatives has a positive determinant everywhere.
    """
    matrices = [spline_matrix(size, points) for size, points in zip(patch_size, grid, strict=True)]
    overshoots = [_largest_row(matrix) for matrix in matrices]
    slopes = [_largest_row(np.diff(matrix, axis=0)) if len(matrix) > 1 else 0.0 for matrix in matrices]
    every = math.prod(overshoots)
    steepest = sum(slope * every / overshoot for slope, overshoot in zip(slopes, overshoots, strict=True))
    return WITHOUT_FOLDING / steepest if steepest else math.inf


def reach(displacements: np.ndarray, patch_size: Sequence[int]) -> np.ndarray:
    """Voxels per axis that no voxel of a patch is displaced beyond; splines may overshoot the points of their grid."""
    grid = displacements.shape[1:]
    overshoots = [_largest_row(spline_matrix(size, points)) for size, points in zip(patch_size, grid, strict=True)]
    return np.abs(displacements).reshape(len(displacements), -1).max(axis=1) * math.prod(overshoots)


def displacement_fields(displacements: np.ndarray, patch_size: Sequence[int], device: torch.device) -> Tensor:
    """Displacement of every voxel of a patch, (ndim, *patch_size), from that of the points of a grid."""
    grid = displacements.shape[1:]
    matrices = [spline_matrix(size, points) for size, points in zip(patch_size, grid, strict=True)]
    return torch.stack([smooth_field(along, matrices, device) for along in displacements])


def _largest_row(matrix: np.ndarray) -> float:
    """The most that numbers of at most 1 can be turned into."""
    return float(np.abs(matrix).sum(axis=1).max())

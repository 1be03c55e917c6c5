"""How far each point of one surface lies from the nearest of another: points on a grid in, distances in mm out.

The surfaces of a mask and of its truth mostly lie within a few voxels of each other. Points are therefore first looked
for around each other, shell by shell from the nearest offset outwards, in a small map of the grid; each shell only for
the points that found nothing nearer. What lies further off asks a k-d tree. Both give the same distance, and the map is
never larger than a few megabytes: a stray island at the other end of a scan goes straight to the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import pi, prod

import numpy as np
from numpy.typing import NDArray

OFFSETS = 125  # looked at before the tree is asked: within three voxels or so where voxels are cubes
MAP_VOXELS = 1 << 24  # the largest map of the grid, in bytes; around a liver of 1 mm voxels it takes half as many
Shell = tuple[float, NDArray[np.int64]]


def nearest_mm(points: np.ndarray, others: np.ndarray, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Distance of each point (n, dimensions), counted in voxels, to the nearest of the others; infinite if none is.

    >>> nearest_mm(np.array([[0, 0], [0, 9]]), np.array([[1, 0]]), spacing_mm=(2.0, 1.0)).round(2).tolist()
    [2.0, 9.22]
    """
    distances = np.full(len(points), np.inf)
    if not len(points) or not len(others):
        return distances
    left = _look_around(points, others, tuple(map(float, spacing_mm)), distances)
    if len(left):
        distances[left] = _ask_tree(points[left], others, np.asarray(spacing_mm, dtype=float))
    return distances


def _look_around(
    points: np.ndarray, others: np.ndarray, spacing_mm: tuple[float, ...], distances: np.ndarray
) -> NDArray[np.intp]:
    """Fill in the distances of points with another one close by; returns the places of those without."""
    left = np.arange(len(points))
    reach = _reach(spacing_mm)
    along, others_along = np.ascontiguousarray(points.T), np.ascontiguousarray(others.T)
    low = along.min(axis=1, keepdims=True) - reach
    high = along.max(axis=1, keepdims=True) + reach
    shape = (high - low + 1).ravel().tolist()
    if prod(shape) > MAP_VOXELS:
        return left
    strides = np.array([prod(shape[axis + 1 :]) for axis in range(len(shape))])
    there = np.zeros(prod(shape), dtype=bool)
    inside = ((others_along >= low) & (others_along <= high)).all(axis=0)
    there[strides @ (others_along - low)[:, inside]] = True
    places = strides @ (along - low)
    for distance_mm, offsets in shells(spacing_mm):
        hit = there[places + (offsets @ strides)[:, None]].any(axis=0)
        distances[left[hit]] = distance_mm
        left, places = left[~hit], places[~hit]
        if not len(left):
            break
    return left


@cache
def _reach(spacing_mm: tuple[float, ...]) -> NDArray[np.int64]:
    """How far (dimensions, 1) the shells go along each axis."""
    return np.concatenate([offsets for _, offsets in shells(spacing_mm)]).max(axis=0)[:, None]


def _ask_tree(points: np.ndarray, others: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    from scipy.spatial import KDTree  # a tenth of a second to load, and often not needed

    tree = KDTree(others * spacing, leafsize=32, compact_nodes=False, balanced_tree=False)
    _, nearest = tree.query(points * spacing)
    return _length_mm(points - others[nearest], spacing)


def _length_mm(steps: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """From whole voxels: 0.3 mm away is then within a tolerance of 0.3 mm wherever on the grid it lies."""
    return np.sqrt(((steps * spacing) ** 2).sum(axis=1))


@cache
def shells(spacing_mm: tuple[float, ...]) -> tuple[Shell, ...]:
    """Offsets (n, dimensions) around a point by their distance, the nearest first: none that is nearer is left out.

    >>> [(distance_mm, len(offsets)) for distance_mm, offsets in shells((1.0, 1.0, 1.0))][:3]
    [(0.0, 1), (1.0, 6), (1.4142135623730951, 12)]
    """
    spacing = np.asarray(spacing_mm)
    ball = {2: pi, 3: pi * 4 / 3}[len(spacing)]
    radius_mm = (OFFSETS * spacing.prod() / ball) ** (1 / len(spacing)) + spacing.min()  # holds more than enough
    axes = [np.arange(-reach, reach + 1) for reach in (radius_mm // spacing).astype(int)]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(spacing))
    distances = _length_mm(offsets, spacing)
    within = distances <= min(radius_mm, np.sort(distances)[: OFFSETS + 1][-1])
    values, shell = np.unique(distances[within], return_inverse=True)
    return tuple((float(value), offsets[within][shell == number]) for number, value in enumerate(values))

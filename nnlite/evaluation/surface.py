"""How far two surfaces lie apart: label maps in, distances in mm for all labels at once out.

A surface element sits wherever the eight voxels around a corner of the grid (in 2D: four pixels) are not all inside or
all outside a label. Its area in mm² (length in mm) is that of the surface which marching cubes lays between these
voxels. Elements, areas and percentiles are those of Nikolov et al., "Deep learning to achieve clinically applicable
segmentation of head and neck anatomy for radiotherapy" (arXiv:1809.04430, 2018).

All labels are collected in one pass, so a scan of a hundred labels costs little more than one of two. Each element
looks for the nearest one of the other mask among its elements (see nearest.py). These are far fewer than the voxels of
a distance map, and a stray island at the other end of the scan costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from nnlite.evaluation.nearest import nearest_mm

VOXELS_AT_ONCE = 1 << 22  # slices are taken in blocks of about so many, which bounds the memory beside the masks


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """Surface elements of one label: grid corners (n, dimensions), counted in voxels, and areas (n,) in mm² or mm."""

    corners: NDArray[np.int32]
    areas: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceDistances:
    """Of each element of one surface, the distance in mm to the nearest element of the other, and its area.

    Areas are mm², in 2D lengths in mm. If either surface is empty, every distance is infinite.
    """

    truth_to_prediction_mm: NDArray[np.float64]
    prediction_to_truth_mm: NDArray[np.float64]
    truth_areas: NDArray[np.float64]
    prediction_areas: NDArray[np.float64]

    @property
    def defined(self) -> bool:
        """Whether both masks have a surface; otherwise no distance between them has a meaning."""
        return min(len(self.truth_areas), len(self.prediction_areas)) > 0

    def hausdorff_mm(self, percent: float = 100) -> float:
        """Hausdorff distance, or its percentile: the distance below which ``percent`` of the area lies.

        The percentile is taken for each of the two directions, each element weighing by its area, and the larger one
        counts. NaN if either mask is empty.
        """
        if not self.defined:
            return float("nan")
        return max(
            _percentile(self.truth_to_prediction_mm, self.truth_areas, percent),
            _percentile(self.prediction_to_truth_mm, self.prediction_areas, percent),
        )

    def average_mm(self) -> float:
        """Average symmetric surface distance: the mean over the area of both surfaces together.

        NaN if either mask is empty.
        """
        if not self.defined:
            return float("nan")
        moments = self.truth_to_prediction_mm @ self.truth_areas, self.prediction_to_truth_mm @ self.prediction_areas
        return float(sum(moments) / (self.truth_areas.sum() + self.prediction_areas.sum()))

    def surface_dice(self, tolerance_mm: float) -> float:
        """Share of the area of both surfaces that lies within the tolerance of the other one, also called NSD.

        NaN if both masks are empty, 0 if one of them is.
        """
        area = self.truth_areas.sum() + self.prediction_areas.sum()
        if area == 0:
            return float("nan")
        close = self.truth_areas[self.truth_to_prediction_mm <= tolerance_mm].sum()
        close += self.prediction_areas[self.prediction_to_truth_mm <= tolerance_mm].sum()
        return float(close / area)


def surface_distances(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], count: int
) -> list[SurfaceDistances]:
    """Distances between the surfaces of each label 0 to count - 1 in two label maps of one shape, 2D or 3D.

    ``spacing_mm`` has one number per axis. Label 0, the background, has no surface. What lies beyond the border of the
    map is background.

    >>> truth, prediction = np.zeros((2, 9, 9, 9), dtype=np.uint8)
    >>> truth[2:5, 2:5, 2:5] = prediction[2:5, 2:5, 3:6] = 1
    >>> surface_distances(truth, prediction, (1.0, 1.0, 2.0), count=2)[1].hausdorff_mm()
    2.0
    """
    surfaces = [find_surfaces(label_map, spacing_mm, count) for label_map in (truth, prediction)]
    return [_between(ours, theirs, spacing_mm) for ours, theirs in zip(*surfaces, strict=True)]


def _between(truth: Surface, prediction: Surface, spacing_mm: Sequence[float]) -> SurfaceDistances:
    return SurfaceDistances(
        truth_to_prediction_mm=nearest_mm(truth.corners, prediction.corners, spacing_mm),
        prediction_to_truth_mm=nearest_mm(prediction.corners, truth.corners, spacing_mm),
        truth_areas=truth.areas,
        prediction_areas=prediction.areas,
    )


def _percentile(distances_mm: np.ndarray, areas: np.ndarray, percent: float) -> float:
    """Smallest distance such that elements up to it hold so many percent of the area."""
    if percent >= 100:
        return float(distances_mm.max())
    order = np.argsort(distances_mm)
    shares = np.cumsum(areas[order]) / areas.sum()
    place = np.searchsorted(shares, percent / 100)
    return float(distances_mm[order[min(int(place), len(order) - 1)]])


def find_surfaces(label_map: np.ndarray, spacing_mm: Sequence[float], count: int) -> list[Surface]:
    """Surface of each label 0 to count - 1 (none for 0) of a 2D or 3D map; corner i of an axis lies before voxel i."""
    dimensions = label_map.ndim
    if len(spacing_mm) != dimensions:
        raise ValueError(f"a label map of {dimensions} dimensions needs as many spacings, not {tuple(spacing_mm)}")
    blocks = list(_elements(label_map))
    labels = np.concatenate([block[0] for block in blocks])
    codes = np.concatenate([block[1] for block in blocks])
    corners = np.concatenate([block[2] for block in blocks])
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(1, count))
    areas = element_areas(spacing_mm)
    parts = np.split(order, bounds)
    return [Surface(corners=_unravel(corners[part], label_map.shape), areas=areas[codes[part]]) for part in parts]


def _elements(label_map: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Label, neighbour code and place of every surface element, block by block.

    Places count the voxels of the map with a margin of background around it: the corner before each has its place.
    """
    voxels_in_slice = prod(size + 2 for size in label_map.shape[1:])
    slices = max(1, VOXELS_AT_ONCE // voxels_in_slice)
    for first in range(0, label_map.shape[0] + 1, slices):
        last = min(first + slices, label_map.shape[0] + 1)
        inside = label_map[max(first - 1, 0) : last]
        missing = (int(first == 0), last - first + 1 - len(inside) - int(first == 0))
        block = np.pad(inside, [missing] + [(1, 1)] * (label_map.ndim - 1))
        labels, codes, places = _elements_of_block(block)
        yield labels, codes, places + first * voxels_in_slice


def _elements_of_block(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same between the voxels of one block: bit k of a code is set if neighbour k has the label.

    Voxels are taken as one long line, which is fast. Where it goes on to the next row or slice, the margin makes sure
    that background meets background.
    """
    voxels = block.reshape(-1)
    strides = [prod(block.shape[axis + 1 :]) for axis in range(block.ndim)]
    mixed = np.zeros(voxels.shape, dtype=bool)  # whether a voxel differs from any of the next along the axes so far
    for stride in reversed(strides):
        mixed = mixed[:-stride] | mixed[stride:] | (voxels[:-stride] != voxels[stride:])[: len(mixed) - stride]
    places = np.flatnonzero(mixed)
    offsets = np.array(_neighbours(block.ndim)) @ strides
    neighbours = voxels[places + offsets[:, None]]
    codes = np.zeros(neighbours.shape, dtype=np.uint8)
    for bit, neighbour in enumerate(neighbours):
        codes |= (neighbours == neighbour).view(np.uint8) << np.uint8(bit)
    earlier = (1 << np.arange(len(offsets), dtype=np.uint8)) - np.uint8(1)  # each label once: by its first neighbour
    of, chosen = np.nonzero((neighbours != 0) & (codes & earlier[:, None] == 0))
    return neighbours[of, chosen], codes[of, chosen], places[chosen]


def _unravel(places: np.ndarray, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Corners (n, dimensions) from their places among the voxels of a map with its margin."""
    axes = np.unravel_index(places, [size + 2 for size in shape])
    return np.stack(axes, axis=1, dtype=np.int32, casting="same_kind")  # half the memory of what NumPy counts with


def _neighbours(dimensions: int) -> list[tuple[int, ...]]:
    """Offsets of the voxels around a corner; the position is the bit in its neighbour code."""
    return list(product((0, 1), repeat=dimensions))


def element_areas(spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Area in mm² (in 2D: length in mm) of the surface element of each neighbour code.

    >>> element_areas((1.0, 2.0))[0b0011].item()  # a contour between two rows, as long as a pixel
    2.0
    """
    spacing = np.asarray(spacing_mm, dtype=float)
    if len(spacing) == 2:
        return np.sqrt((_segments() ** 2 * spacing**2).sum(axis=2)).sum(axis=1)
    faces = spacing.prod() / spacing  # what a unit of area across each axis becomes on this grid
    return np.sqrt((_triangles() ** 2 * faces**2).sum(axis=2)).sum(axis=1)


@cache
def _segments() -> NDArray[np.float64]:
    """Steps (16, 2, 2) of the contour for each neighbour code at unit spacing, filled up with zeros.

    A contour runs through the middle of every side that has one end inside. Where only opposite corners are inside,
    each is cut off by itself.
    """
    table = np.zeros((16, 2, 2))
    for code in range(1, 15):
        inside = np.array([code >> bit & 1 for bit in range(4)]).reshape(2, 2)
        diagonal = inside[0, 0] == inside[1, 1] and inside[0, 1] == inside[1, 0]
        if diagonal or inside.sum() != 2:
            table[code, : 1 + int(diagonal)] = 0.5
        else:
            table[code, 0] = (0, 1) if inside[0, 0] == inside[0, 1] else (1, 0)
    return table


@cache
def _triangles() -> NDArray[np.float64]:
    """Area vectors (256, n, 3) of the triangles for each neighbour code at unit spacing, filled up with zeros.

    A code and its complement share one surface, so that it does not matter which side is called inside: the one that
    encloses the corners in the minority.
    """
    from skimage.measure import marching_cubes

    table: list[np.ndarray] = [np.zeros((0, 3))] * 256
    for code in range(1, 255):
        bits = [code >> bit & 1 for bit in range(8)]
        minority = code if sum(bits) <= 4 else 255 - code
        cube = np.array([minority >> bit & 1 for bit in range(8)], dtype=np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(cube, level=0.5, method="lorensen")
        a, b, c = (vertices[faces[:, i]].astype(float) for i in range(3))
        table[code] = np.cross(b - a, c - a) / 2
    longest = max(map(len, table))
    return np.stack([np.pad(vectors, [(0, longest - len(vectors)), (0, 0)]) for vectors in table])

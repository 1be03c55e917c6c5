"""Outlines of masks and masks of outlines, slice by slice: numbers and arrays alone.

For ``rtstruct.py``. A voxel belongs to a structure if its centre is inside the outlines by the even-odd rule: they are
crossed an odd number of times on the way out (Foley et al., Computer Graphics, 1990). So an outline within another is a
hole.
Outlines are traced half-way between the centres of voxels (marching squares; Lorensen and Cline 1987), so that filling
them gives the very same mask. A hole is joined to the outline around it by a cut of no width (the "keyhole" of DICOM
PS3.3 C.8.8.6.3), because many programs unite all outlines of a slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def filled(outlines: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The mask (rows, columns) of closed outlines, each (points, 2) as row and column in voxels.

    Centres on the upper or left border are inside, those on the lower or right border outside.

    >>> square = np.array([(0.5, 0.5), (0.5, 2.5), (2.5, 2.5), (2.5, 0.5)])
    >>> filled([square], shape=(4, 4)).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    height, width = shape
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for outline in outlines:
        start, end = outline, np.roll(outline, -1, axis=0)
        upward = (start[:, 0] > end[:, 0])[:, None]
        # a cut is walked twice: from the same end both times, so that rounding cannot open it
        low, high = np.where(upward, end, start), np.where(upward, start, end)
        first = np.clip(np.ceil(low[:, 0]).astype(int), 0, height)
        last = np.clip(np.ceil(high[:, 0]).astype(int), 0, height)
        counts = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(low)), counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        slope = (high[edge, 1] - low[edge, 1]) / (high[edge, 0] - low[edge, 0])
        column = low[edge, 1] + (row - low[edge, 0]) * slope
        np.add.at(crossings, (row, np.clip(np.ceil(column).astype(int), 0, width)), 1)
    return np.cumsum(crossings[:, :width], axis=1) % 2 == 1


def traced(mask: np.ndarray) -> list[np.ndarray]:
    """The outlines (points, 2) of a mask (rows, columns), one for each part; holes are joined to the outline around.

    >>> [outline.tolist() for outline in traced(np.array([[0, 1]]))]
    [[[0.5, 1.0], [0.0, 0.5], [-0.5, 1.0], [0.0, 1.5]]]
    """
    from scipy import ndimage
    from skimage.measure import find_contours

    parts, count = ndimage.label(mask)  # parts that touch at a corner only are two
    outlines = []
    for part, (rows, columns) in enumerate(ndimage.find_objects(parts, count), start=1):
        inside = np.pad(parts[rows, columns] == part, 1)
        offset = np.array([rows.start - 1, columns.start - 1], dtype=float)
        found = [_corners(closed[:-1] + offset) for closed in find_contours(inside.astype(np.float32), 0.5)]
        outlines.append(_joined(sorted(found, key=_area, reverse=True)))
    return outlines


def _joined(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """One outline of the outer border, which comes first, and of its holes, each reached by the shortest cut from it.

    A cut may cross another hole: walked to and fro, it counts twice, and so not at all.
    """
    border, *holes = outlines
    if not holes:
        return border
    from scipy.spatial import cKDTree

    tree = cKDTree(border)
    detours: dict[int, list[np.ndarray]] = {}
    for hole in holes:
        distances, nearest = tree.query(hole)
        start = int(np.argmin(distances))
        leave = int(nearest[start])
        around = np.roll(hole, -start, axis=0)
        detours.setdefault(leave, []).extend([around, around[:1], border[leave : leave + 1]])
    pieces, done = [], 0
    for leave in sorted(detours):
        pieces.extend([border[done : leave + 1], *detours[leave]])
        done = leave + 1
    return np.concatenate([*pieces, border[done:]])


def _corners(outline: np.ndarray) -> np.ndarray:
    """The points where an outline turns; those on a straight way say nothing."""
    before, after = outline - np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0) - outline
    return outline[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]  # exact: multiples of half a voxel


def _area(outline: np.ndarray) -> float:
    rows, columns = outline.T
    return abs(float(rows @ np.roll(columns, -1) - columns @ np.roll(rows, -1))) / 2

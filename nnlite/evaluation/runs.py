"""A label map as runs of equal voxels along x: what components and centres are counted from.

One pass over the voxels serves all labels at once, and what follows costs time and memory by the run, not by the voxel,
however far the islands of a label lie apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# the half of a run's neighbouring rows (dz, dy) that come after it; the other half is their mirror image
ROWS_AHEAD = ((0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The runs of foreground voxels of one label map, in the order of its voxels; each field has one entry per run.

    ``starts`` and ``stops`` (exclusive) are places on one long line of all rows (z, y), between which ``row_stride``
    and ``slice_stride`` leave room: a run never seems to touch one of the row before or after.
    """

    labels: NDArray[np.integer]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    row_stride: int
    slice_stride: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Voxels in each run."""
        return self.stops - self.starts


def find_runs(label_map: np.ndarray) -> Runs:
    """Runs of equal labels other than 0 along the last axis of a map (z, y, x).

    >>> runs = find_runs(np.array([[[0, 1, 1, 2], [2, 0, 0, 2]]]))
    >>> runs.labels.tolist(), runs.lengths.tolist()
    ([1, 2, 2, 2], [2, 1, 1, 1])
    """
    _, rows, columns = label_map.shape
    begins = np.ones(label_map.shape, dtype=bool)
    np.not_equal(label_map[..., 1:], label_map[..., :-1], out=begins[..., 1:])
    first = np.flatnonzero(begins)
    lengths = np.diff(first, append=label_map.size)
    labels = label_map.reshape(-1)[first]
    foreground = labels != 0
    labels, first, lengths = labels[foreground], first[foreground], lengths[foreground]
    z, y, x = np.unravel_index(first, label_map.shape)
    row_stride = columns + 1  # one place is left free behind each row ..
    slice_stride = row_stride * (rows + 1)  # .. and one row behind each slice
    starts = z * slice_stride + y * row_stride + x
    return Runs(labels=labels, starts=starts, stops=starts + lengths, row_stride=row_stride, slice_stride=slice_stride)


def meeting(first: Runs, second: Runs, *, margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs of the same label that share a place once ``first`` is grown by ``margin`` places at both ends.

    Returns the indices of the runs in ``first`` and in ``second``, one entry per pair; both are of maps of one shape.
    """
    lowest = np.searchsorted(second.stops, first.starts - margin, side="right")
    highest = np.searchsorted(second.starts, first.stops + margin, side="left")
    partners = np.maximum(highest - lowest, 0)
    ours = np.repeat(np.arange(len(partners)), partners)
    theirs = np.arange(len(ours)) - np.repeat(np.cumsum(partners) - partners - lowest, partners)
    same = first.labels[ours] == second.labels[theirs]
    return ours[same], theirs[same]


def components(runs: Runs) -> tuple[int, np.ndarray]:
    """Number of connected components, and the one each run belongs to, in the order of their first runs.

    Voxels of a label are connected if they share a face, an edge or a corner: 26 neighbours, 8 within a single slice.

    >>> diagonal = np.eye(3, dtype=int)[None]
    >>> components(find_runs(diagonal))[0]
    1
    """
    shifts = np.array([[dz * runs.slice_stride + dy * runs.row_stride] for dz, dy in ROWS_AHEAD])
    moved = replace(
        runs,
        labels=np.tile(runs.labels, len(shifts)),
        starts=(runs.starts + shifts).reshape(-1),
        stops=(runs.stops + shifts).reshape(-1),
    )
    ours, theirs = meeting(moved, runs, margin=1)
    ours %= len(runs.labels)
    first = _first_connected(ours, theirs, len(runs.labels))
    leads = first == np.arange(len(first))
    return int(leads.sum()), (np.cumsum(leads) - 1)[first]


def _first_connected(ours: np.ndarray, theirs: np.ndarray, count: int) -> NDArray[np.intp]:
    """The first of all runs that each of ``count`` is connected with, directly or not.

    Every run points to an earlier one. In each round, the ends of all chains that touch are joined, and the chains
    shortened to one step (Shiloach and Vishkin, Journal of Algorithms 3, 57-67, 1982): a few rounds do.
    """
    first = np.arange(count)
    while True:
        here, there = first[ours], first[theirs]
        apart = here != there
        if not apart.any():
            return first
        ours, theirs, here, there = ours[apart], theirs[apart], here[apart], there[apart]
        np.minimum.at(first, np.maximum(here, there), np.minimum(here, there))
        while not np.array_equal(first, shorter := first[first]):
            first = shorter


def centres_mm(runs: Runs, spacing_mm: Sequence[float], count: int) -> np.ndarray:
    """Centre of mass (count, 3) of each label 0 to count - 1, counted from voxel (0, 0, 0); NaN where there is none."""
    z, in_slice = np.divmod(runs.starts, runs.slice_stride)
    y, x = np.divmod(in_slice, runs.row_stride)
    middle = x + (runs.lengths - 1) / 2
    voxels = np.bincount(runs.labels, weights=runs.lengths, minlength=count)
    sums = [np.bincount(runs.labels, weights=axis * runs.lengths, minlength=count) for axis in (z, y, middle)]
    mean = np.divide(sums, voxels, out=np.full((3, count), np.nan), where=voxels > 0)
    return mean.T * np.asarray(spacing_mm)

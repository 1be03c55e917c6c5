"""Where the labels of a preprocessed case are: a table of voxels that training centres patches on.

The table is made once, when a case is stored, and mapped afterwards: to draw a voxel reads two numbers. A voxel is its
number in the flattened label map, four bytes instead of twelve; the voxels of a label lie together, and a second, tiny
table says where each label ends.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from nnlite.data.labels import values_in

LOCATIONS_PER_LABEL = 10_000  # enough places to centre patches on, a fraction of a second to draw and to read
LARGEST_INT32 = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Locations:
    """Voxels of each foreground label that a case has: at most ``LOCATIONS_PER_LABEL`` each, drawn at random.

    ``voxels`` (n,) are numbers in the flattened map of this ``shape`` (z, y, x), ordered by label and then by place;
    ``ends`` (labels, 2) has a row (label, end) for each label, the end being that of its voxels in ``voxels``.
    """

    shape: tuple[int, ...]
    voxels: np.ndarray
    ends: np.ndarray

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels that the case has, in order."""
        return tuple(self.ends[:, 0].tolist())

    def of(self, label: int) -> np.ndarray:
        """The voxels (n, 3) of a label that the case has."""
        begin, end = self._range(self.labels.index(label))
        return np.stack(np.unravel_index(self.voxels[begin:end], self.shape), axis=1)

    def draw(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """A random voxel (z, y, x) of a random label, or None where nothing is labelled."""
        if not len(self.ends):
            return None
        begin, end = self._range(int(rng.integers(len(self.ends))))
        number = int(self.voxels[rng.integers(begin, end)])
        voxel = []
        for length in reversed(self.shape):
            number, place = divmod(number, length)
            voxel.append(place)
        return tuple(reversed(voxel))

    def _range(self, row: int) -> tuple[int, int]:
        return (int(self.ends[row - 1, 1]) if row else 0), int(self.ends[row, 1])


def locate(label: np.ndarray, case_id: str) -> Locations:
    """The table of a label map (z, y, x); the same for the same case id.

    >>> table = locate(np.array([[[0, 2, 1], [0, 0, 2]]]), "case")
    >>> table.voxels.tolist(), table.ends.tolist(), table.of(2).tolist()
    ([2, 1, 5], [[1, 1], [2, 3]], [[0, 0, 1], [0, 1, 2]])
    """
    rng = np.random.default_rng(zlib.crc32(case_id.encode()))
    foreground = np.flatnonzero(label != 0)  # of truth values: ten times faster than of numbers
    values = label.reshape(-1)[foreground]
    parts, ends, end = [np.empty(0, dtype=foreground.dtype)], [], 0
    for index in values_in(values):
        voxels = foreground[values == index]
        if len(voxels) > LOCATIONS_PER_LABEL:
            voxels = np.sort(rng.choice(voxels, LOCATIONS_PER_LABEL, replace=False))
        parts.append(voxels)
        end += len(voxels)
        ends.append((index, end))
    dtype = np.int32 if label.size <= LARGEST_INT32 else np.int64
    return Locations(
        shape=label.shape,
        voxels=np.concatenate(parts).astype(dtype),
        ends=np.array(ends, dtype=np.int32).reshape(-1, 2),
    )

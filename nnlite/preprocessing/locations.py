"""Where the structures of a preprocessed case are: a table of voxels that training centres patches on.

The table is made once, when a case is stored, and mapped afterwards: to draw a voxel reads two numbers. A voxel is its
number in the flattened label map, four bytes instead of twelve; the voxels of a structure lie together, and a second,
tiny table says where each structure ends.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nnlite.data.annotated import Annotated
from nnlite.data.labels import Labels, values_in

LOCATIONS_PER_STRUCTURE = 10_000  # enough places to centre patches on, a fraction of a second to draw and to read
ANNOTATED = 0  # stands for all voxels that are labelled, background included, where some are not
LARGEST_INT32 = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Locations:
    """Voxels of each structure that a case has: at most ``LOCATIONS_PER_STRUCTURE`` each, drawn at random.

    ``voxels`` (n,) are numbers in the flattened map of this ``shape`` (z, y, x), ordered by structure and then by
    place; ``ends`` (rows, 2) has a row (structure, end) for each, the end being that of its voxels in ``voxels``.
    Structures count from 1 in the order of the label table. Cases of a dataset with an ignore label begin with a row
    for all ``ANNOTATED`` voxels.
    """

    shape: tuple[int, ...]
    voxels: np.ndarray
    ends: np.ndarray

    @property
    def structures(self) -> tuple[int, ...]:
        """The structures that the case has, in order."""
        return tuple(self.ends[self._first :, 0].tolist())

    def of(self, structure: int) -> np.ndarray:
        """The voxels (n, 3) of a structure that the case has."""
        begin, end = self._range(self.ends[:, 0].tolist().index(structure))
        return np.stack(np.unravel_index(self.voxels[begin:end], self.shape), axis=1)

    def draw(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """A random voxel (z, y, x) of a random structure, or None where the case has none."""
        if len(self.ends) == self._first:
            return None
        return self._draw(rng, self._first + int(rng.integers(len(self.ends) - self._first)))

    def draw_annotated(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """A random voxel (z, y, x) that is labelled, be it background; None where all are, or none is."""
        return self._draw(rng, 0) if self._first else None

    @property
    def _first(self) -> int:
        """The first row that is a structure's."""
        return int(len(self.ends) > 0 and self.ends[0, 0] == ANNOTATED)

    def _draw(self, rng: np.random.Generator, row: int) -> tuple[int, ...]:
        begin, end = self._range(row)
        number = int(self.voxels[rng.integers(begin, end)])
        voxel = []
        for length in reversed(self.shape):
            number, place = divmod(number, length)
            voxel.append(place)
        return tuple(reversed(voxel))

    def _range(self, row: int) -> tuple[int, int]:
        return (int(self.ends[row - 1, 1]) if row else 0), int(self.ends[row, 1])


def locate(
    label: np.ndarray, case_id: str, labels: Labels | None = None, annotated: Annotated | None = None
) -> Locations:
    """The table of a label map (z, y, x) of indices; the same for the same case id.

    Without ``labels`` each index but 0 is a structure. Those that are not ``annotated`` are left out.

    >>> table = locate(np.array([[[0, 2, 1], [0, 0, 2]]]), "case")
    >>> table.voxels.tolist(), table.ends.tolist(), table.of(2).tolist()
    ([2, 1, 5], [[1, 1], [2, 3]], [[0, 0, 1], [0, 1, 2]])
    """
    rng = np.random.default_rng(zlib.crc32(case_id.encode()))
    parts, ends, end = [np.empty(0, dtype=np.intp)], [], 0
    for structure, voxels in _by_structure(label, labels):
        if annotated is not None and structure != ANNOTATED and not annotated[structure - 1]:
            continue
        if len(voxels) > LOCATIONS_PER_STRUCTURE:
            voxels = np.sort(rng.choice(voxels, LOCATIONS_PER_STRUCTURE, replace=False))
        parts.append(voxels)
        end += len(voxels)
        ends.append((structure, end))
    dtype = np.int32 if label.size <= LARGEST_INT32 else np.int64
    return Locations(
        shape=label.shape,
        voxels=np.concatenate(parts).astype(dtype),
        ends=np.array(ends, dtype=np.int32).reshape(-1, 2),
    )


def _by_structure(label: np.ndarray, labels: Labels | None) -> Iterator[tuple[int, np.ndarray]]:
    """Structures that the case has, in order, with the numbers of their voxels; first of all the annotated ones."""
    ignored = None if labels is None else labels.ignore_index
    if ignored is not None and len(annotated := np.flatnonzero(label != ignored)):
        yield ANNOTATED, annotated
    foreground = np.flatnonzero(label != 0)  # of truth values: ten times faster than of numbers
    values = label.reshape(-1)[foreground]
    if labels is not None and labels.regions:
        members = list(enumerate(labels.members, start=1))
    else:
        members = [(index, (index,)) for index in values_in(values) if index != ignored]
    for structure, indices in members:
        voxels = foreground[values == indices[0] if len(indices) == 1 else np.isin(values, indices)]
        if len(voxels):
            yield structure, voxels

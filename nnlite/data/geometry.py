"""Where voxels sit in the patient: the grid of a file, the same grid in canonical orientation, and the way between.

Canonical axes point toward superior, posterior and left (DICOM LPS), by exact permutations and flips of the file's;
oblique directions are kept. Networks that were trained elsewhere may want their images as the file has them: that is
the orientation "file". Numbers and arrays alone: files are the concern of ``image.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any, Literal

import numpy as np

MASK_SUFFIXES = {".jpg": ".png", ".jpeg": ".png", ".mhd": ".mha"}  # JPEG would blur labels; .mhd is two files

NO_DEPTH_MM = 999.0  # slice distance given to 2D images, as nnU-Net does: far too thick to resample or pool across
SPACING_TOLERANCE = 1e-3  # relative; headers store float32, some tools print four digits
DIRECTION_TOLERANCE = 1e-3  # of a unit vector; 0.5 voxels at the end of an axis of 512
ORIGIN_TOLERANCE = 1e-2  # of the smallest spacing: a shift nobody could see
FINEST_SPACING_MM = 1e-7  # 0.1 nm, an atom
COARSEST_SPACING_MM = 1e4  # 10 m: nothing medical is that far apart; beyond, a header is broken
CACHED_GRIDS = 64  # image and label of a case share theirs
AS_STORED = ((0, 1, 2), (False, False, False))  # axes and flips of an array in the order of its file

Triple = tuple[float, float, float]
Orientation = Literal["canonical", "file"]
"""Which axes an array has: those of the patient, always alike, or those of the file, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where a voxel grid sits in the patient. Every tuple is ordered like the array: (z, y, x).

    ``direction[p][a]`` is the part of array axis a that points along patient axis p (z toward superior, y toward
    posterior, x toward left). ``origin_mm`` is the centre of voxel (0, 0, 0).
    """

    shape: tuple[int, int, int]
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    direction: tuple[Triple, Triple, Triple] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"an image of shape {self.shape} has no voxels")
        if not all(math.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(f"spacing {self.spacing_mm} mm is not positive")
        if not all(map(math.isfinite, (*self.origin_mm, *(part for row in self.direction for part in row)))):
            raise ValueError("origin or direction is not a finite number")

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel; for pictures, whose depth is unknown, this means nothing."""
        return math.prod(self.spacing_mm) / 1000

    def differences(self, other: Geometry, names: tuple[str, str] = ("first", "second")) -> list[str]:
        """In words, with both values, how two grids differ beyond rounding; empty if they are the same.

        >>> a = Geometry(shape=(9, 9, 9), spacing_mm=(2.0, 1.0, 1.0))
        >>> b = Geometry(shape=(9, 9, 9), spacing_mm=(1.0, 1.0, 1.0))
        >>> a.differences(b, names=("image", "label"))
        ['label spacing (1, 1, 1) mm but image spacing (2, 1, 1) mm']
        """
        spacing, spacing_2 = np.array(self.spacing_mm), np.array(other.spacing_mm)
        origin_gap = np.abs(np.subtract(self.origin_mm, other.origin_mm)).max()
        agree = {
            "shape": self.shape == other.shape,
            "spacing_mm": np.allclose(spacing, spacing_2, rtol=SPACING_TOLERANCE, atol=0),
            "origin_mm": bool(origin_gap <= ORIGIN_TOLERANCE * spacing.min()),
            "direction": np.allclose(self.direction, other.direction, rtol=0, atol=DIRECTION_TOLERANCE),
        }
        mine, theirs = names
        found = []
        for field, same in agree.items():
            if not same:
                word, unit = field.removesuffix("_mm"), " mm" if field.endswith("_mm") else ""
                values = _in_words(getattr(other, field)), _in_words(getattr(self, field))
                found.append(f"{theirs} {word} {values[0]}{unit} but {mine} {word} {values[1]}{unit}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrid:
    """How the file holds the array: canonical axis c is the file's axis ``axes[c]``, reversed where ``flips[c]``.

    For an image in the orientation of its file both say that nothing was changed.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    planar: bool
    suffix: str
    geometry: Geometry

    @property
    def mask_suffix(self) -> str:
        """Suffix for a mask of this image: its own, unless that format cannot hold labels exactly."""
        return MASK_SUFFIXES.get(self.suffix, self.suffix)

    @property
    def code(self) -> str:
        """Where the file's axes x, y and z point in the patient, as in "LPS" or "RAS"."""
        letters = [""] * 3
        for patient, (axis, flipped) in enumerate(zip(self.axes, self.flips, strict=True)):
            letters[axis] = "SPL"[patient] if not flipped else "IAR"[patient]
        return "".join(reversed(letters))

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the array in canonical orientation."""
        z, y, x = (self.geometry.shape[axis] for axis in self.axes)
        return z, y, x

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """View of an array (channels, z, y, x) in the file's order, in canonical order: to read from or write into."""
        turned = array.transpose(0, *(axis + 1 for axis in self.axes))
        return np.flip(turned, self._flipped_axes)

    def as_stored(self, array: np.ndarray) -> np.ndarray:
        """An array (channels, z, y, x) in canonical order, in the file's order: the way back of ``canonical``."""
        return np.ascontiguousarray(self.in_file_order(array))

    def in_file_order(self, array: np.ndarray) -> np.ndarray:
        """View of an array (channels, z, y, x) in canonical order, in the file's order."""
        turned = np.flip(array, self._flipped_axes)
        return turned.transpose(0, *(axis + 1 for axis in np.argsort(self.axes)))

    @property
    def _flipped_axes(self) -> tuple[int, ...]:
        return tuple(axis + 1 for axis, flipped in enumerate(self.flips) if flipped)


@lru_cache(maxsize=CACHED_GRIDS)
def grids(
    file: Geometry, suffix: str, *, planar: bool = False, orientation: Orientation = "canonical"
) -> tuple[StoredGrid, Geometry]:
    """How a file with this grid holds its array, and the grid in the orientation that is asked for."""
    axes, flips = _orientation(file.direction) if orientation == "canonical" else AS_STORED
    stored = StoredGrid(axes=axes, flips=flips, planar=planar, suffix=suffix, geometry=file)
    return stored, _canonical(stored)


def triple(values: np.ndarray) -> Triple:
    """Three numbers as a tuple."""
    z, y, x = values.tolist()
    return z, y, x


def rows(matrix: np.ndarray) -> tuple[Triple, Triple, Triple]:
    """A matrix (3, 3) as a tuple of its rows."""
    return triple(matrix[0]), triple(matrix[1]), triple(matrix[2])


@lru_cache(maxsize=CACHED_GRIDS)
def _orientation(direction_rows: tuple[Triple, Triple, Triple]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """The file axis nearest to each patient axis, and whether it points the other way."""
    direction = np.array(direction_rows)

    def agreement(axes: tuple[int, ...]) -> float:  # rounded: at 45 degrees, noise must not decide
        return round(sum(abs(direction[patient, axis]) for patient, axis in enumerate(axes)), 6)

    z, y, x = max(permutations(range(3)), key=agreement)
    return (z, y, x), (bool(direction[0, z] < 0), bool(direction[1, y] < 0), bool(direction[2, x] < 0))


def _canonical(stored: StoredGrid) -> Geometry:
    file, axes, flips = stored.geometry, list(stored.axes), np.array(stored.flips)
    shape, spacing = np.array(file.shape)[axes], np.array(file.spacing_mm)[axes]
    direction = np.array(file.direction)[:, axes]
    # a reversed axis starts at what was its last voxel
    origin = np.array(file.origin_mm) + direction @ np.where(flips, spacing * (shape - 1), 0.0)
    z, y, x = shape.tolist()
    signs = np.where(flips, -1.0, 1.0)
    return Geometry(
        shape=(z, y, x),
        spacing_mm=triple(spacing),
        origin_mm=triple(origin),
        direction=rows(direction * signs + 0.0),  # + 0.0 turns -0.0 into 0.0
    )


def _in_words(values: tuple[Any, ...]) -> str:
    inner = ", ".join(_in_words(value) if isinstance(value, tuple) else f"{value:.6g}" for value in values)
    return f"({inner})"


def has_sizes(spacing_mm: Iterable[float]) -> bool:
    """Whether a spacing is another than that of pictures without sizes, whose pixels count as 1 mm.

    >>> has_sizes((NO_DEPTH_MM, 1.0, 1.0)), has_sizes((0.5, 0.5))
    (False, True)
    """
    return not {*spacing_mm} <= {1.0, NO_DEPTH_MM}

"""Slices as one volume: their order, distance and grid, from where each lies in the patient.

After ``series.py``, before ``voxels.py``. File names, instance numbers and slice thickness are not trusted: the order
and the distance of the slices come from Image Position (Patient) along the normal of Image Orientation (Patient)
(DICOM PS3.3 C.7.6.2). What is no regular stack is an error that names the positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnlite.data.dicom.headers import Frame
from nnlite.data.dicom.series import Series
from nnlite.data.geometry import Geometry, rows, triple
from nnlite.errors import ImageError

SAME_DIRECTION = 1e-3  # of a unit vector; headers print six digits, some tools four
SAME_SPACING = 1e-3  # relative
SAME_POSITION = 0.01  # of the slice distance: two slices nobody could tell apart by their place
OFF_GRID = 0.1  # of the slice distance; positions rounded to 0.1 mm are off by less
SQUARE = 0.01  # how far row and column may be from a right angle, before they are set right
TILT_DEGREES = 0.5  # a scan line of slices that leans further from their normal is sheared
LISTED = 4  # positions shown of many


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A series in order: slice k of the grid (slices, rows, columns) is frame k."""

    series: Series
    frames: tuple[Frame, ...]
    geometry: Geometry


def stack(series: Series) -> Stack:
    """Order the slices of a series along their normal; ``ImageError`` where they form no regular volume."""
    where = f"{series.folder}: series {series.in_words()}"
    _require_one_kind(where, series.frames)
    along_row, along_column = _axes(where, series.frames[0])
    normal = np.cross(along_row, along_column)
    places = np.array([frame.position_mm for frame in series.frames]) @ normal
    order = np.argsort(places, kind="stable")
    frames = tuple(series.frames[index] for index in order)
    distance_mm = _distance(where, places[order], frames)
    _require_upright(where, frames, normal)
    height, width = frames[0].shape
    spacing = np.array([distance_mm, *(frames[0].spacing_mm or ())])
    direction = np.stack([normal, along_column, along_row], axis=1)[::-1]  # DICOM names x first, nnlite z
    origin = np.array(frames[0].position_mm)[::-1]
    try:
        geometry = Geometry(
            shape=(len(frames), height, width),
            spacing_mm=triple(spacing),
            origin_mm=triple(origin),
            direction=rows(direction + 0.0),
        )
    except ValueError as error:
        raise ImageError(f"{where}: {error}; get the original series") from error
    return Stack(series=series, frames=frames, geometry=geometry)


def _require_one_kind(where: str, frames: Sequence[Frame]) -> None:
    """All slices have one orientation, one shape and one pixel spacing, up to rounding."""
    first = frames[0]
    orientations = _kinds([frame.orientation or () for frame in frames], atol=SAME_DIRECTION)
    if len(orientations) > 1:
        raise ImageError(
            f"{where}: mixes orientations ({_in_words(orientations)}), a localizer perhaps; keep the slices of one "
            "orientation in the folder"
        )
    shapes = Counter(frame.shape for frame in frames)
    if len(shapes) > 1:
        raise ImageError(f"{where}: mixes slice sizes ({_in_words(shapes)} voxels); keep those of one size")
    spacings = _kinds([frame.spacing_mm or () for frame in frames], atol=SAME_SPACING * max(first.spacing_mm or (1,)))
    if len(spacings) > 1:
        raise ImageError(f"{where}: mixes pixel spacings ({_in_words(spacings)} mm); keep the slices of one")


def _kinds(values: Sequence[tuple[float, ...]], atol: float) -> Counter[tuple[float, ...]]:
    """How many values are alike, each kind under its first."""
    kinds: Counter[tuple[float, ...]] = Counter()
    for value in values:
        same = next((k for k in kinds if len(k) == len(value) and np.allclose(k, value, rtol=0, atol=atol)), value)
        kinds[same] += 1
    return kinds


def _in_words(kinds: Counter[tuple[float, ...]] | Counter[tuple[int, int]]) -> str:
    counted = kinds.most_common(LISTED)
    return ", ".join(f"{n} with {' '.join(f'{v:.4g}' for v in kind)}" for kind, n in counted)


def _axes(where: str, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Directions (x, y, z) of a row and of a column as exact unit vectors at a right angle."""
    given = np.array(frame.orientation)
    lengths = np.linalg.norm(given.reshape(2, 3), axis=1) if given.size == 6 else np.zeros(2)
    if np.abs(lengths - 1).max() > SQUARE or abs(given[:3] @ given[3:]) > SQUARE:
        raise ImageError(
            f"{where}: Image Orientation {' '.join(f'{v:.4g}' for v in given)} is not two directions at a right angle; "
            "get the original series"
        )
    along_row = given[:3] / lengths[0]
    along_column = given[3:] - (given[3:] @ along_row) * along_row
    return along_row, along_column / np.linalg.norm(along_column)


def _distance(where: str, places_mm: np.ndarray, frames: Sequence[Frame]) -> float:
    """The distance of sorted slices in mm; ``ImageError`` where one is missing, comes twice, or is off the grid."""
    if len(places_mm) == 1:
        raise ImageError(f"{where}: has one slice, a volume needs at least two; get the whole series")
    gaps = np.diff(places_mm)
    usual = float(np.median(gaps))
    twice = np.flatnonzero(gaps <= SAME_POSITION * max(usual, 1.0))
    if twice.size:
        copies = f"{frames[twice[0]].path.name} and {frames[twice[0] + 1].path.name}"
        raise ImageError(
            f"{where}: {twice.size} positions occur more than once ({_listed(places_mm[twice])} mm; {copies}); remove "
            "copies, or keep the slices of one phase, echo or time in the folder"
        )
    regular = np.linspace(places_mm[0], places_mm[-1], len(places_mm))
    spacing = float(regular[1] - regular[0])
    if np.abs(places_mm - regular).max() <= OFF_GRID * spacing:
        return spacing
    wide = np.flatnonzero(np.abs(gaps - usual) > OFF_GRID * usual)
    places = ", ".join(f"{places_mm[i]:.2f} to {places_mm[i + 1]:.2f}" for i in wide[:LISTED])
    more = f" and {len(wide) - LISTED} more" if len(wide) > LISTED else ""
    steps = np.rint(gaps[wide] / usual)
    if wide.size and (steps >= 2).all() and np.abs(gaps[wide] - steps * usual).max() <= OFF_GRID * usual:
        raise ImageError(
            f"{where}: {int((steps - 1).sum())} slices are missing (slices are {usual:.4g} mm apart, but not from "
            f"{places} mm{more}); get the whole series"
        )
    raise ImageError(
        f"{where}: its slices are not evenly spaced ({gaps.min():.4g} to {gaps.max():.4g} mm; {places} mm{more}); "
        "resample it onto an even grid, or keep the part that is even"
    )


def _require_upright(where: str, frames: Sequence[Frame], normal: np.ndarray) -> None:
    """The slices lie straight behind each other, not sheared as with a tilted gantry."""
    way = np.subtract(frames[-1].position_mm or (), frames[0].position_mm or ())
    tilt = float(np.degrees(np.arccos(np.clip(way @ normal / np.linalg.norm(way), -1, 1))))
    if tilt > TILT_DEGREES:
        raise ImageError(
            f"{where}: its slices are sheared by {tilt:.1f} degrees (a tilted gantry); correct the tilt, for example "
            "with dcm2niix, and use its NIfTI"
        )


def _listed(places_mm: np.ndarray) -> str:
    more = f" and {len(places_mm) - LISTED} more" if len(places_mm) > LISTED else ""
    return ", ".join(f"{place:.2f}" for place in places_mm[:LISTED]) + more

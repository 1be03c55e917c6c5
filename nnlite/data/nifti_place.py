"""What is odd about a NIfTI header, and where its voxels lie all the same: for files that are not plain.

Second choice of ``image.py``. SimpleITK takes a spacing of zero for 1 mm and a contradiction for no matter, and refuses
axes that are a little off a right angle; a user wants to hear of the first two and to be helped with the third. The
header is judged here, before SimpleITK opens the file. Which of its two statements counts is ITK's choice (its
NiftiImageIO, itk.org): the matrix (sform) where it leads to the coordinates of the scanner or is the only one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from nnlite.data.geometry import Geometry, rows
from nnlite.data.integrity import unpacked
from nnlite.data.nifti_header import NO_PLAIN_NUMBERS, NiftiHeader
from nnlite.data.straighten import RIGHT_ANGLE_TOLERANCE, Straightened, straighten

SCANNER = 1  # the code of a form that leads to the coordinates of the scanner
SPACING_AGREES = 0.01  # relative; beyond, pixdim and the columns of the matrix do not mean the same spacing
LONGEST_QUATERNION = 1.001  # its three numbers are sines: beyond rounding, their squares cannot exceed 1
MOST_AXES = 7
COLOURS = ("RGB", "RGBA")  # become channels
CHANNEL_AXES = 1  # beyond the three of space

NO_DIRECTIONS = (
    "its header does not say where its axes point (qform and sform are off); which side is left is a guess: "
    "look in a viewer"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a header says: the ``problem`` that forbids to read the file (None: none) with its ``remedy``, and oddities.

    ``straightened`` is the grid of a file that SimpleITK refuses, for its axes; ``corrected`` the one that follows from
    the rest of the header where one part of it has a problem. Both are None where there is nothing of the kind.
    """

    problem: str | None = None
    remedy: str = "correct its header"
    remarks: tuple[str, ...] = ()
    straightened: Straightened | None = None
    corrected: Geometry | None = None


def place(header: NiftiHeader) -> Place:
    """Judge a header."""
    if problem := _layout_problem(header):
        return Place(problem=problem)
    if problem := _voxel_problem(header):
        return Place(problem=problem, remedy="save the voxels as plain numbers")
    if sum(size > 1 for size in header.shape[3:]) > CHANNEL_AXES:
        told = " x ".join(map(str, header.shape))
        problem = f"has {len(header.shape)} dimensions ({told}), and only the fourth may hold channels"
        return Place(problem=problem, remedy="save each volume (a point in time, say) as a file of its own")
    by_sform = header.sform > 0 and (header.sform == SCANNER or header.qform <= 0)
    if problem := _spacing_problem(header, by_sform=by_sform):
        return Place(problem=problem, corrected=_by_matrix(header))
    remarks = tuple(_remarks(header, by_sform=by_sform))
    if header.sform > 0 and _sheared(header.sform_matrix()):
        return _without_right_angles(header, remarks)
    if by_sform and (problem := _contradiction(header)):
        return Place(problem=problem, corrected=_by_matrix(header))
    if not by_sform and header.qform > 0 and not _is_rotation(header):
        told = ", ".join(f"{part:g}" for part in header.quaternion)
        return Place(problem=f"the rotation in its header (quaternion {told}) is none", corrected=_by_matrix(header))
    return Place(remarks=remarks)


def read_voxels(path: Path, header: NiftiHeader) -> np.ndarray:
    """The voxels (channels, z, y, x) of a whole file whose header has no problem, scaled as it says."""
    shape = header.shape[:3] + (1,) * (3 - len(header.shape))
    channels = math.prod(header.shape[3:])
    assert header.dtype is not None, "voxels of a judged header are plain numbers"
    with unpacked(path) as content:
        content.seek(int(header.start))
        raw = content.read(channels * math.prod(shape) * header.dtype.itemsize)
    voxels = np.frombuffer(raw, header.dtype).reshape(channels, *shape[::-1])
    voxels = voxels.astype(header.dtype.newbyteorder("="))
    if (header.slope in (0.0, 1.0) and header.intercept == 0) or not math.isfinite(header.slope + header.intercept):
        return voxels
    return (voxels * (header.slope or 1.0) + header.intercept).astype(np.float32)


def _layout_problem(header: NiftiHeader) -> str | None:
    if not header.shape or min(header.shape) < 1:
        told = " x ".join(map(str, header.shape)) or f"not 1 to {MOST_AXES}"
        return f"the number of voxels along its axes is {told} in its header"
    if not (math.isfinite(header.start) and header.start >= 0):
        return f"its header says that the voxels start at byte {header.start:g}"
    return None


def _voxel_problem(header: NiftiHeader) -> str | None:
    if header.dtype is None:
        kind = NO_PLAIN_NUMBERS.get(header.code)
        told = f"{kind} voxels" if kind else f"a kind of voxel that NIfTI does not know (code {header.code})"
        return None if kind in COLOURS else f"holds {told}"
    if header.bits != 8 * header.dtype.itemsize:
        return f"its header contradicts itself: voxels of {header.bits} bits, but of type {header.dtype.name}"
    return None


def _spacing_problem(header: NiftiHeader, *, by_sform: bool) -> str | None:
    spacing, used = header.spacing_mm, _long_axes(header)
    stated = _column_lengths(header.sform_matrix()) if header.sform > 0 else None
    also = "" if stated is None else f" (its sform says {_mm(stated)})"
    if not all(math.isfinite(spacing[axis]) and spacing[axis] != 0 for axis in used):
        return f"the spacing in its header, {_mm(spacing)}, is not positive{also}"
    if stated is None or not by_sform:
        return None
    if any(stated[axis] == 0 or not math.isfinite(stated[axis]) for axis in used):
        return f"its sform is empty (its columns say a spacing of {_mm(stated)}, pixdim {_mm(spacing)})"
    return None


def _contradiction(header: NiftiHeader) -> str | None:
    spacing, stated = header.spacing_mm, _column_lengths(header.sform_matrix())
    if all(abs(stated[axis] / abs(spacing[axis]) - 1) <= SPACING_AGREES for axis in _long_axes(header)):
        return None
    return f"its header states two spacings: {_mm(spacing)} (pixdim) and {_mm(stated)} (sform)"


def _remarks(header: NiftiHeader, *, by_sform: bool) -> Iterator[str]:
    if any(header.spacing_mm[axis] < 0 for axis in _long_axes(header)):
        yield f"the spacing in its header, {_mm(header.spacing_mm)}, is negative; taken as positive"
    if header.qform <= 0 and header.sform <= 0:
        yield NO_DIRECTIONS
    turn = header.qform_matrix() if header.qform > 0 and header.sform > 0 else None
    if turn is not None and not forms_agree(turn, header.sform_matrix(), header.shape):
        used = ("sform", "qform") if by_sform else ("qform", "sform")
        gap = f"{_corner_gap(turn, header.sform_matrix(), header.shape):.3g} mm"
        yield f"its qform and its sform place it differently, by up to {gap}; the {used[0]} is used, not the {used[1]}"


def forms_agree(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether two matrices (3, 4) put every corner of a volume at the same place, to a voxel."""
    steps = [length for length in _column_lengths(second) if length > 0]
    return _corner_gap(first, second, shape) <= min(steps, default=1.0)


def _corner_gap(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> float:
    ends = np.array([*shape[:3], 1, 1][:3]) - 1
    corners = np.array([[*(np.array(corner) * ends), 1] for corner in product((0, 1), repeat=3)])
    return float(np.linalg.norm(corners @ (first - second).T, axis=1).max())


def _without_right_angles(header: NiftiHeader, remarks: tuple[str, ...]) -> Place:
    """A file whose sform is sheared: SimpleITK takes the qform where there is one, and refuses the file where not."""
    if header.qform > 0 and _is_rotation(header):
        told = "its sform has axes that are not at right angles; its qform is used"
        return Place(remarks=(*[text for text in remarks if "qform and its sform" not in text], told))
    grid = _by_matrix(header, straight=False)
    try:
        straightened = None if grid is None else straighten(grid)
    except ValueError as error:
        return Place(problem=str(error))
    return Place(remarks=remarks, straightened=straightened)


def _by_matrix(header: NiftiHeader, *, straight: bool = True) -> Geometry | None:
    """The grid that the sform alone states, with axes at right angles if asked for; None where it states none."""
    if header.sform <= 0:
        return None
    matrix = header.sform_matrix()
    x, y, z = (*header.shape[:3], 1, 1)[:3]
    flips = np.diag([-1.0, -1.0, 1.0])  # NIfTI counts toward right, front and top, nnlite toward left, back and top
    lengths = np.array(_column_lengths(matrix))
    try:
        with np.errstate(all="ignore"):
            direction = flips @ matrix[:, :3] / lengths
        grid = Geometry(
            shape=(z, y, x),
            spacing_mm=(float(lengths[2]), float(lengths[1]), float(lengths[0])),
            origin_mm=(matrix[2, 3].item(), -matrix[1, 3].item(), -matrix[0, 3].item()),
            direction=rows(direction[::-1, ::-1]),
        )
        straightened = straighten(grid) if straight else None
    except ValueError:
        return None
    return straightened.geometry if straightened else grid


def _sheared(matrix: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        axes = matrix[:, :3] / np.array(_column_lengths(matrix))
    return not float(np.abs(axes.T @ axes - np.eye(3)).max()) <= RIGHT_ANGLE_TOLERANCE / 2  # ITK rounds otherwise


def _is_rotation(header: NiftiHeader) -> bool:
    return sum(part * part for part in header.quaternion) <= LONGEST_QUATERNION


def _long_axes(header: NiftiHeader) -> list[int]:
    """The axes of space along which there is a distance between voxels."""
    return [axis for axis, size in enumerate(header.shape[:3]) if size > 1]


def _column_lengths(matrix: np.ndarray) -> tuple[float, float, float]:
    x, y, z = np.linalg.norm(matrix[:, :3], axis=0).tolist()
    return x, y, z


def _mm(spacing: Sequence[float]) -> str:
    """A spacing in the order of nnlite, z first."""
    return f"({', '.join(f'{step:.6g}' for step in spacing[2::-1])}) mm"

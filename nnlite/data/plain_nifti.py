"""Read the plain kind of NIfTI file without SimpleITK: unpacked once, looked through for damage on the way.

First choice of ``image.py`` for a volume. SimpleITK takes some milliseconds to open a file, many times what unpacking
a small one takes, and a second unpacking is needed to see what it keeps silent about (``integrity.py``). Plain is what
nearly all volumes are: whole, three axes, one number per voxel without a scale, and one statement of where the axes
point. Of these voxels and geometry are SimpleITK's to the bit; whatever is unusual or damaged is left to SimpleITK.
Layout: ``nifti_header.py``. Which of the two statements in a header counts: as ITK's NiftiImageIO chooses (itk.org).
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nnlite.data.geometry import Geometry, rows
from nnlite.data.nifti_header import GZIP_MAGIC, HEADER, HEADER_BYTES, SPACE_UNITS, TYPES, turned
from nnlite.data.nifti_place import forms_agree

MILLIMETRES = (0, 2)  # 0: not said
SCANNER = 1  # the code of a form that leads to the coordinates of the scanner
GZIP_WINDOW_BITS = 31

# Beyond these limits ITK's own checks, in other precision, might find otherwise: such files are left to it.
RIGHT_ANGLE_TOLERANCE = 5e-5  # half of ITK's
SPACING_LIMITS_MM = (0.01, 1000.0)
OFFSET_LIMIT_MM = 2000.0
COLUMN_TOLERANCE = 1e-3  # relative; headers store float32, and the columns of a matrix state the spacing once more
CACHED_GEOMETRIES = 64  # image and label of a case have the same


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlainVolume:
    """Voxels (z, y, x) and their grid as the file holds them; the ``not_finite`` that are NaN or infinite are 0."""

    voxels: np.ndarray
    not_finite: int
    geometry: Geometry


def read_plain(path: Path) -> PlainVolume | None:
    """The volume in a plain .nii or .nii.gz file; None if the file is unusual, damaged or cannot be opened."""
    try:
        content = path.read_bytes()
        packed = content.startswith(GZIP_MAGIC)
        if packed != path.name.lower().endswith(".gz"):
            return None
        start = zlib.decompressobj(GZIP_WINDOW_BITS).decompress(content, HEADER_BYTES) if packed else content
        if len(start) < HEADER_BYTES:
            return None
        header = np.frombuffer(start, HEADER, count=1)[0]
        geometry = _geometry(header) if _is_plain(header) else None
        if geometry is None:
            return None
        if packed:
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None
    x, y, z = header["dim"][1:4].tolist()
    first, dtype = int(header["start"]), TYPES[int(header["type"])]
    if len(content) < first + x * y * z * dtype.itemsize:
        return None
    voxels = np.frombuffer(content, dtype, count=x * y * z, offset=first).reshape(z, y, x)
    not_finite = 0
    if dtype.kind == "f":
        finite = np.isfinite(voxels)
        not_finite = voxels.size - int(np.count_nonzero(finite))
        voxels = np.where(finite, voxels, dtype.type(0)) if not_finite else voxels
    return PlainVolume(voxels=voxels, not_finite=not_finite, geometry=geometry)


def _is_plain(header: np.void) -> bool:
    """Whether it is a NIfTI-1 file in one part, with three axes and voxels that mean what they say."""
    count, *shape = header["dim"][:4].tolist()
    dtype = TYPES.get(int(header["type"]))
    return (
        int(header["size"]) == HEADER_BYTES
        and header["magic"] == b"n+1"
        and count == 3
        and min(shape) >= 1
        and dtype is not None
        and int(header["bits"]) == 8 * dtype.itemsize
        and float(header["start"]) >= HEADER_BYTES
        and float(header["start"]).is_integer()
        and int(header["intent"]) == 0
        and float(header["slope"]) in (0.0, 1.0)
        and float(header["intercept"]) == 0.0
        and int(header["units"]) & SPACE_UNITS in MILLIMETRES
    )


def _geometry(header: np.void) -> Geometry | None:
    """The grid that the header states; None where it states two, or ITK might object."""
    sform, qform = int(header["sform"]), int(header["qform"])
    shape = tuple(header["dim"][1:4].tolist())
    spacing = header["pixdim"][1:4].tolist()
    if not all(SPACING_LIMITS_MM[0] <= step <= SPACING_LIMITS_MM[1] for step in spacing) or min(sform, qform) < 0:
        return None
    if sform == SCANNER or (sform and not qform):
        matrix = tuple(header["matrix"].tolist())
        agree = not qform or _agree(_turn(header), matrix, shape)
        return _placed(matrix, tuple(spacing), shape) if agree else None
    if qform and not sform:
        turn = _turn(header)
        return None if turn is None else _placed(turn, tuple(spacing), shape)
    return None


def _turn(header: np.void) -> tuple[float, ...] | None:
    """The matrix (3, 4) that the header states as a rotation; None if it is none."""
    sign, *spacing = header["pixdim"][:4].tolist()
    return turned(header["quaternion"].tolist(), header["offset"].tolist(), spacing, sign)


@lru_cache(maxsize=CACHED_GEOMETRIES)
def _agree(turn: tuple[float, ...] | None, matrix: tuple[float, ...], shape: tuple[int, ...]) -> bool:
    """Whether the rotation that does not count says the same as the matrix that does, or nothing that makes sense."""
    return turn is None or turn == matrix or forms_agree(np.reshape(turn, (3, 4)), np.reshape(matrix, (3, 4)), shape)


@lru_cache(maxsize=CACHED_GEOMETRIES)
def _placed(matrix: tuple[float, ...], spacing: tuple[float, ...], shape: tuple[int, ...]) -> Geometry | None:
    """The grid that a matrix (3, 4) of NIfTI places; None unless its axes are at right angles and near the patient.

    All of it is in the order x, y, z.
    """
    if not all(abs(offset) <= OFFSET_LIMIT_MM for offset in matrix[3::4]):
        return None
    axes = []
    for axis in range(3):
        # NIfTI counts toward right, front and top, DICOM and ITK toward left, back and top
        right, front, top = matrix[axis::4]
        length = math.sqrt(right * right + front * front + top * top)
        if not abs(length / spacing[axis] - 1) <= COLUMN_TOLERANCE:
            return None
        axes.append((-right / length, -front / length, top / length))
    direction = np.array(axes).T
    if not np.abs(direction @ direction.T - np.eye(3)).max() <= RIGHT_ANGLE_TOLERANCE:
        return None
    x, y, z = shape
    return Geometry(
        shape=(z, y, x),
        spacing_mm=(spacing[2], spacing[1], spacing[0]),
        origin_mm=(matrix[11], -matrix[7], -matrix[3]),
        direction=rows(direction[::-1, ::-1]),
    )

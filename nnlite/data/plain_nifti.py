"""Read the plain kind of NIfTI file without SimpleITK: unpacked once, looked through for damage on the way.

First choice of ``image.py`` for a volume. SimpleITK takes some milliseconds to open a file, many times what unpacking
a small one takes, and a second unpacking is needed to see what it keeps silent about (``integrity.py``). Plain is what
nearly all volumes are: whole, three axes, one number per voxel without a scale, and one statement of where the axes
point. Of these voxels and geometry are SimpleITK's to the bit; whatever is unusual or damaged is left to SimpleITK.
Layout and quaternion: the definition of NIfTI-1 (nifti.nimh.nih.gov). Which of the two statements in a header counts:
as ITK's NiftiImageIO chooses (itk.org).
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nnlite.data.geometry import Geometry, rows

HEADER_BYTES = 348
FIELDS = {  # those of the header that are looked at: type and place
    "size": ("<i4", 0),
    "dim": ("<8i2", 40),
    "intent": ("<i2", 68),
    "type": ("<i2", 70),
    "bits": ("<i2", 72),
    "pixdim": ("<8f4", 76),
    "start": ("<f4", 108),
    "slope": ("<f4", 112),
    "intercept": ("<f4", 116),
    "units": ("u1", 123),
    "qform": ("<i2", 252),
    "sform": ("<i2", 254),
    "quaternion": ("<3f4", 256),
    "offset": ("<3f4", 268),
    "matrix": ("<12f4", 280),
    "magic": ("S4", 344),
}
HEADER = np.dtype(
    {
        "names": [*FIELDS],
        "formats": [kind for kind, _ in FIELDS.values()],
        "offsets": [place for _, place in FIELDS.values()],
        "itemsize": HEADER_BYTES,
    }
)
CODES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2", 768: "<u4"}
TYPES = {code: np.dtype(kind) for code, kind in CODES.items()}
SPACE_UNITS, MILLIMETRES = 0b111, (0, 2)  # 0: not said
SCANNER = 1  # the code of a form that leads to the coordinates of the scanner
GZIP_MAGIC, GZIP_WINDOW_BITS = b"\x1f\x8b", 31

# Beyond these limits ITK's own checks, in other precision, might find otherwise: such files are left to it.
RIGHT_ANGLE_TOLERANCE = 5e-5  # half of ITK's
SPACING_LIMITS_MM = (0.01, 1000.0)
OFFSET_LIMIT_MM = 2000.0
HALF_TURN = 1e-7  # a rotation this close to half a turn is one: float32 cannot tell
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
    sign, *spacing = header["pixdim"][:4].tolist()
    if not all(SPACING_LIMITS_MM[0] <= step <= SPACING_LIMITS_MM[1] for step in spacing) or min(sform, qform) < 0:
        return None
    if sform == SCANNER or (sform and not qform):
        return _placed(tuple(header["matrix"].tolist()), tuple(spacing), shape)
    if qform and not sform:
        matrix = _turned(header["quaternion"].tolist(), header["offset"].tolist(), spacing, sign)
        return None if matrix is None else _placed(matrix, tuple(spacing), shape)
    return None


def _turned(
    quaternion: Sequence[float], offset: Sequence[float], spacing: Sequence[float], sign: float
) -> tuple[float, ...] | None:
    """The matrix (3, 4), row by row and rounded to float32, that is stated as a rotation; None if it is none."""
    b, c, d = quaternion
    squares = b * b + c * c + d * d
    if not squares <= 1 + HALF_TURN:  # too long, or no number
        return None
    a = 1.0 - squares
    if a < HALF_TURN:  # what is left is rounding
        shrink = 1.0 / math.sqrt(squares)
        a, b, c, d = 0.0, b * shrink, c * shrink, d * shrink
    else:
        a = math.sqrt(a)
    turn = (
        (a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
        (2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)),
        (2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b),
    )
    x, y, z = spacing
    steps = (x, y, -z if sign < 0 else z)
    matrix = [
        (*(part * step for part, step in zip(row, steps, strict=True)), o) for row, o in zip(turn, offset, strict=True)
    ]
    return tuple(np.array(matrix, dtype=np.float32).ravel().tolist())


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
        if not 0 < length < math.inf:
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

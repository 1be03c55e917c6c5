"""What the header of a NIfTI file says, in either byte order and either version; voxels are not looked at.

Below ``plain_nifti.py``, which reads most volumes, and ``nifti_place.py``, which finds out what is wrong with the
others. Layout: the definitions of NIfTI-1 and NIfTI-2 (nifti.nimh.nih.gov).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nnlite.data.integrity import unpacked

FIELDS = {  # those of NIfTI-1 that are looked at: type and place
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
FIELDS_2 = {  # the same of NIfTI-2
    "size": ("<i4", 0),
    "magic": ("S4", 4),
    "type": ("<i2", 12),
    "bits": ("<i2", 14),
    "dim": ("<8i8", 16),
    "pixdim": ("<8f8", 104),
    "start": ("<i8", 168),
    "slope": ("<f8", 176),
    "intercept": ("<f8", 184),
    "qform": ("<i4", 344),
    "sform": ("<i4", 348),
    "quaternion": ("<3f8", 352),
    "offset": ("<3f8", 376),
    "matrix": ("<12f8", 400),
    "units": ("<i4", 500),
    "intent": ("<i4", 504),
}
HEADER_BYTES, HEADER_2_BYTES = 348, 540


def _layout(fields: dict[str, tuple[str, int]], size: int) -> np.dtype:
    kinds, places = [kind for kind, _ in fields.values()], [place for _, place in fields.values()]
    return np.dtype({"names": [*fields], "formats": kinds, "offsets": places, "itemsize": size})


HEADER, HEADER_2 = _layout(FIELDS, HEADER_BYTES), _layout(FIELDS_2, HEADER_2_BYTES)
CODES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2", 768: "<u4", 1024: "<i8", 1280: "<u8"}
TYPES = {code: np.dtype(kind) for code, kind in CODES.items()}
NO_PLAIN_NUMBERS = {
    1: "bits",
    32: "complex",
    128: "RGB",
    1536: "128-bit",
    1792: "complex",
    2048: "complex",
    2304: "RGBA",
}
SPACE_UNITS, UNIT_MM = 0b111, {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # not said, m, mm, micrometre
HALF_TURN = 1e-7  # a rotation this close to half a turn is one: float32 cannot tell
ByteOrder = Literal["<", ">"]
ORDERS: tuple[ByteOrder, ByteOrder] = ("<", ">")
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class NiftiHeader:
    """A header as it is; everything is in the order x, y, z, .. ``shape`` has all axes, ``sign`` is that of the qform.

    ``dtype`` is None for voxels that are no plain numbers.
    """

    shape: tuple[int, ...]
    code: int
    bits: int
    dtype: np.dtype | None
    spacing_mm: tuple[float, ...]
    sign: float
    start: float
    slope: float
    intercept: float
    qform: int
    sform: int
    quaternion: tuple[float, ...]
    offset_mm: tuple[float, ...]
    matrix: tuple[float, ...]

    def sform_matrix(self) -> np.ndarray:
        """The matrix (3, 4) from voxels to millimetres that the header spells out."""
        return np.reshape(self.matrix, (3, 4))

    def qform_matrix(self) -> np.ndarray | None:
        """The matrix (3, 4) that the header states as a rotation; None if it is none."""
        turn = turned(self.quaternion, self.offset_mm, self.spacing_mm, self.sign)
        return None if turn is None else np.reshape(turn, (3, 4))


def read_header(path: Path) -> NiftiHeader | None:
    """The header of a .nii or .nii.gz file; None if the file is none, or damaged so early."""
    try:
        with unpacked(path) as content:
            return parse_header(content.read(HEADER_2_BYTES))
    except (OSError, EOFError, zlib.error):
        return None


def parse_header(content: bytes) -> NiftiHeader | None:
    """What the first bytes of a NIfTI file say; None if they are no NIfTI header."""
    for layout in (HEADER, HEADER_2):
        for order in ORDERS:
            if len(content) >= layout.itemsize:
                fields = np.frombuffer(content, layout.newbyteorder(order), count=1)[0]
                if int(fields["size"]) == layout.itemsize:
                    return _header(fields, order)
    return None


def _header(fields: np.void, order: ByteOrder) -> NiftiHeader:
    count = int(fields["dim"][0])
    unit = UNIT_MM.get(int(fields["units"]) & SPACE_UNITS, 1.0)
    sign, *steps = fields["pixdim"][:4].astype(np.float64).tolist()
    code = int(fields["type"])
    dtype = TYPES.get(code)
    return NiftiHeader(
        shape=tuple(fields["dim"][1 : count + 1].tolist()) if 1 <= count <= 7 else (),
        code=code,
        bits=int(fields["bits"]),
        dtype=None if dtype is None else dtype.newbyteorder(order),
        spacing_mm=tuple(step * unit for step in steps),
        sign=sign,
        start=float(fields["start"]),
        slope=float(fields["slope"]),
        intercept=float(fields["intercept"]),
        qform=int(fields["qform"]),
        sform=int(fields["sform"]),
        quaternion=tuple(fields["quaternion"].astype(np.float64).tolist()),
        offset_mm=tuple((fields["offset"].astype(np.float64) * unit).tolist()),
        matrix=tuple((fields["matrix"].astype(np.float64) * unit).tolist()),
    )


def turned(
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

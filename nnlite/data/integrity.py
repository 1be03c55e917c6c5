"""Notice what image readers keep silent about: files that end too early, and voxels that are no numbers.

The readers behind SimpleITK fill the missing end of NIfTI, JPEG, BMP and multi-page TIFF files with zeros (a download
cut short, a disk that was full), and turn NaN and infinity in NIfTI files into zeros. The other formats are read
faithfully. Layouts: NIfTI-1 and -2 headers (nifti.nimh.nih.gov), gzip (RFC 1952), JPEG's end marker (ITU T.81), BMP's
file size field, TIFF 6.0 and BigTIFF directories.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from nnlite.data.text_header import DENSEST, text_header_problem

CHUNK_BYTES = 1 << 22  # large enough that zlib, not Python, takes the time; a multiple of every voxel size
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by kind of colour
JPEG_TAIL_BYTES = 1 << 16  # cameras append thumbnails and notes behind the end marker, rarely more than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    """What of a file is missing or damaged, in words (None: nothing), and how many of its voxels are no numbers."""

    problem: str | None = None
    not_finite: int = 0
    remedy: str = "get the file again"


def examine(path: Path, suffix: str) -> Integrity:
    """Look for what the reader of this kind of file (``suffix`` such as ``".nii.gz"``) would not tell."""
    if path.stat().st_size == 0:
        return Integrity(problem="the file is empty (0 bytes)")
    if suffix in (".nii", ".nii.gz"):
        return _nifti(path)
    if suffix in (".mha", ".mhd", ".nrrd"):
        found = text_header_problem(path, suffix)
        return Integrity() if found is None else Integrity(problem=found[0], remedy=found[1])
    with path.open("rb") as file:
        if suffix in (".jpg", ".jpeg"):
            return Integrity(problem=_jpeg(file))
        if suffix == ".png":
            return Integrity(problem=_png(file))
        if suffix == ".bmp":
            return Integrity(problem=_bmp(file))
        if suffix in (".tif", ".tiff"):
            return Integrity(problem=_tiff(file))
    return Integrity()


def is_packed(path: Path) -> bool:
    """Whether a file is compressed by gzip, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be read, through gzip if its content, whatever its name, is compressed."""
    with gzip.open(path, "rb") if is_packed(path) else path.open("rb") as content:
        yield cast(BinaryIO, content)


def _nifti(path: Path) -> Integrity:
    try:
        with unpacked(path) as content:
            layout = _nifti_layout(content.read(540))
            if layout is None:
                return Integrity()  # no NIfTI at all: its reader says so
            start, expected, floats = layout
            found, not_finite = content.seek(start), 0
            while chunk := content.read(CHUNK_BYTES):
                found += len(chunk)
                if floats is not None:
                    numbers = np.frombuffer(chunk, floats, count=len(chunk) // floats.itemsize)
                    not_finite += numbers.size - int(np.count_nonzero(np.isfinite(numbers)))
    except EOFError:
        return Integrity(problem="the file is cut short: its compressed data ends too early")
    except (gzip.BadGzipFile, zlib.error):
        return Integrity(problem="the file is damaged: its compressed data cannot be unpacked")
    if found < expected:
        return Integrity(problem=f"the file is cut short: {found} of {expected} bytes are there")
    return Integrity(not_finite=not_finite)


def _nifti_layout(header: bytes) -> tuple[int, int, np.dtype | None] | None:
    """Where the voxels start, how long the file should be, and the voxel type if it can be NaN."""
    for order in "<>":
        size = struct.unpack_from(order + "i", header)[0] if len(header) >= 348 else 0
        if size == 348:
            dim = struct.unpack_from(order + "8h", header, 40)
            code, bits = struct.unpack_from(order + "2h", header, 70)
            start = int(struct.unpack_from(order + "f", header, 108)[0])
        elif size == 540 and len(header) == 540:
            dim = struct.unpack_from(order + "8q", header, 16)
            code, bits = struct.unpack_from(order + "2h", header, 12)
            start = struct.unpack_from(order + "q", header, 168)[0]
        else:
            continue
        floats = {16: np.dtype(order + "f4"), 64: np.dtype(order + "f8")}.get(code)
        return start, start + math.prod(dim[1 : dim[0] + 1]) * bits // 8, floats
    return None


def _jpeg(file: BinaryIO) -> str | None:
    size = file.seek(0, 2)
    file.seek(max(0, size - JPEG_TAIL_BYTES))
    return None if b"\xff\xd9" in file.read() else "the file is cut short: the end marker of the JPEG is missing"


def _png(file: BinaryIO) -> str | None:
    """Whether a PNG is too small for the picture that it announces: its reader would reserve memory for all of it."""
    head = file.read(26)
    if len(head) < 26 or head[12:16] != b"IHDR":
        return None  # no PNG at all: its reader says so
    width, height, depth, colours = struct.unpack_from(">IIBB", head, 16)
    expected = width * height * PNG_CHANNELS.get(colours, 1) * depth // 8
    found = file.seek(0, 2)
    if found >= expected / DENSEST:
        return None
    return f"the file is cut short or damaged: {width} x {height} pixels do not fit into {found} bytes"


def _bmp(file: BinaryIO) -> str | None:
    header = file.read(6)
    expected = struct.unpack_from("<I", header, 2)[0] if len(header) == 6 and header[:2] == b"BM" else 0
    found = file.seek(0, 2)
    return f"the file is cut short: {found} of {expected} bytes are there" if found < expected else None


def _tiff(file: BinaryIO) -> str | None:
    """Follow the chain of pages; each directory of a whole file lies inside it."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return None  # no TIFF at all: its reader says so
    big = struct.unpack_from(order + "H", head, 2)[0] == 43  # BigTIFF: 64-bit offsets
    pointer, count, entry_bytes = (order + "Q", order + "Q", 20) if big else (order + "I", order + "H", 12)
    offset = struct.unpack_from(pointer, head, 8 if big else 4)[0]
    pages: set[int] = set()
    try:
        while offset and offset not in pages:
            pages.add(offset)
            file.seek(offset)
            entries = struct.unpack(count, file.read(struct.calcsize(count)))[0]
            file.seek(entries * entry_bytes, 1)
            offset = struct.unpack(pointer, file.read(struct.calcsize(pointer)))[0]
    except struct.error:
        return f"the file is cut short: page {len(pages)} of the TIFF lies behind its end"
    return None

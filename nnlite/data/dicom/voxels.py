"""The values of a stack of slices: Hounsfield units of a CT, activities of a PET, signals of an MR.

After ``stack.py``; ``image.py`` takes over from here. Stored values become physical ones by the Rescale Slope and
Intercept of each slice (DICOM PS3.3 C.11.1). pydicom reads what is not compressed, or run-length encoded: it notices
when pixels are missing. JPEG of all kinds is handed to the reader that ``image.py`` has anyway, GDCM within SimpleITK,
so that no further library is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnlite.data.dicom.headers import NOT_READABLE, Frame, read_header, require_pydicom
from nnlite.data.dicom.stack import Stack
from nnlite.errors import ImageError

if TYPE_CHECKING:
    import pydicom

Decode = Callable[[Path], np.ndarray]  # a file's frames (frames, rows, columns), rescaled already


def read_voxels(stack: Stack, decode: Decode) -> np.ndarray:
    """The volume (slices, rows, columns) in physical values, as int16 or int32 where these are whole, else float32.

    ``decode`` reads the files that are compressed as JPEG. Raises ``ImageError`` naming the file.
    """
    volume: np.ndarray | None = None
    opened: tuple[Path, _Content] | None = None
    kind = _kind(stack)
    for index, frame in enumerate(stack.frames):
        if opened is None or opened[0] != frame.path:
            opened = frame.path, _open(frame.path, decode)
        values = opened[1].frame(frame)
        if values.shape != frame.shape:
            raise ImageError(f"{frame.path}: has {values.shape} pixels, its header says {frame.shape}; get it again")
        if volume is None:
            volume = np.empty((len(stack.frames), *frame.shape), dtype=kind)
        volume[index] = values if kind == np.float32 else np.rint(values)
    assert volume is not None  # a stack has slices
    return volume


class _Content:
    """The frames of one open file."""

    def __init__(self, values: np.ndarray, *, rescaled: bool) -> None:
        self.values, self.rescaled = values, rescaled

    def frame(self, frame: Frame) -> np.ndarray:
        """Physical values of one slice (rows, columns)."""
        values = self.values[frame.number]
        return values if self.rescaled else values * frame.slope + frame.intercept


def _open(path: Path, decode: Decode) -> _Content:
    file = read_header(path, pixels=True)
    if "PixelData" not in file:
        raise ImageError(f"{path}: has no pixel data, only a header; get the file again")
    if (samples := int(file.get("SamplesPerPixel") or 1)) != 1:
        raise ImageError(f"{path}: is a colour image ({samples} samples per pixel); convert pictures to PNG")
    if file.file_meta.TransferSyntaxUID in _compressed():
        values = decode(path)
        return _Content(values.reshape(-1, *values.shape[-2:]), rescaled=True)
    try:
        values = np.asarray(file.pixel_array)
    except (*NOT_READABLE, NotImplementedError, RuntimeError) as error:
        raise ImageError(f"{path}: its pixels are cut short or damaged ({error}); get the file again") from error
    return _Content(values.reshape(-1, *values.shape[-2:]), rescaled=False)


def _compressed() -> tuple[str, ...]:
    """Transfer syntaxes that pydicom reads only with further libraries."""
    uid = require_pydicom().uid
    return (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes, *uid.JPEG2000TransferSyntaxes)


def _kind(stack: Stack) -> type[np.generic]:
    """The smallest kind of number that holds every physical value that the files could store."""
    header = read_header(stack.frames[0].path)
    if not all(frame.slope.is_integer() and frame.intercept.is_integer() for frame in stack.frames):
        return np.float32
    low, high = _stored_range(header)
    ends = [end * frame.slope + frame.intercept for frame in stack.frames for end in (low, high)]
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
            return kind
    return np.float32


def _stored_range(header: pydicom.Dataset) -> tuple[int, int]:
    bits = int(header.get("BitsStored") or 16)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.get("PixelRepresentation") else (0, 2**bits - 1)

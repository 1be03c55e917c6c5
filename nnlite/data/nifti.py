"""Write a volume of many channels as a NIfTI file, part by part: the whole may be larger than memory.

Leaves at the bottom of the pipeline, with the probabilities of every label. SimpleITK writes whole images only, so the
header is written here, field by field as in the definition of NIfTI-1 (nifti.nimh.nih.gov): 348 bytes, and from byte
352 on the voxels, x fastest, then y, z and, if there are several, the channels as the fourth axis, which every viewer
can step through. Not compressed, because a part of a compressed file has no place of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nnlite.data.geometry import Geometry, StoredGrid
from nnlite.data.records import written_whole
from nnlite.errors import ImageError

HEADER_BYTES = 348
VOXELS_START = 352  # the header, and four bytes that say that nothing else follows it
FLOAT32_CODE, FLOAT32_BITS = 16, 32
MILLIMETRES = 2
SCANNER_COORDINATES = 1
LONGEST_AXIS = 2**15 - 1  # sizes are 16-bit numbers

WritePart = Callable[[tuple[slice, slice, slice], np.ndarray], None]
"""Takes a region (z, y, x) in canonical orientation and its float32 voxels (channels, z, y, x)."""


@contextmanager
def channels_written(path: Path, grid: StoredGrid, *, background: Sequence[float]) -> Iterator[WritePart]:
    """Give a function that writes parts of the .nii file ``path``, which appears whole at the end.

    The file has the grid of the one that ``grid`` was read from, and ``background`` in each of its channels where
    nothing else is written. Its size is claimed at once, so that a full disk is known before the work: a
    ``WorkspaceError``.
    """
    shape = grid.geometry.shape
    if max(*shape, len(background)) > LONGEST_AXIS:
        raise ImageError(f"{path}: an axis of {max(shape)} voxels is too long for NIfTI, which holds {LONGEST_AXIS}")
    with written_whole(path) as beside:
        with beside.open("wb") as file:
            file.write(_header(grid.geometry, len(background)))
            for value in background:
                plane = np.full(shape[1:], value, dtype="<f4").tobytes()
                for _ in range(shape[0]):
                    file.write(plane)

        def write(region: tuple[slice, slice, slice], part: np.ndarray) -> None:
            # mapped anew for every part: what was written before need not stay in memory
            voxels = np.memmap(beside, "<f4", mode="r+", offset=VOXELS_START, shape=(len(background), *shape))
            grid.canonical(voxels)[(slice(None), *region)] = part

        yield write


def _header(geometry: Geometry, channels: int) -> bytes:
    """A NIfTI-1 header of a float32 volume whose axes lie in the patient as ``geometry`` says."""
    flips = np.diag([-1.0, -1.0, 1.0])  # NIfTI counts toward right, front and top; DICOM and nnlite toward left, back
    direction = flips @ np.array(geometry.direction)[::-1, ::-1]  # columns: the file's axes x, y, z
    spacing = np.array(geometry.spacing_mm[::-1])
    place = np.column_stack([direction * spacing, flips @ np.array(geometry.origin_mm[::-1])])
    header = bytearray(VOXELS_START)
    struct.pack_into("<i", header, 0, HEADER_BYTES)
    axes = 3 if channels == 1 else 4
    struct.pack_into("<8h", header, 40, axes, *geometry.shape[::-1], channels, 1, 1, 1)
    struct.pack_into("<2h", header, 70, FLOAT32_CODE, FLOAT32_BITS)
    struct.pack_into("<8f", header, 76, 1.0, *spacing, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<3f", header, 108, VOXELS_START, 1.0, 0.0)  # voxels as they are: slope 1, intercept 0
    struct.pack_into("<b", header, 123, MILLIMETRES)
    struct.pack_into("<2h", header, 252, 0, SCANNER_COORDINATES)  # the place is the matrix below, not a quaternion
    struct.pack_into("<12f", header, 280, *place.ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    return bytes(header)

"""How much memory the voxels of a file will take, judged by the file's size alone: before anything is read."""

from __future__ import annotations

from pathlib import Path

PACKED = 10  # times smaller than its voxels may a picture be, or a volume whose size gzip no longer tells
GZIP_COUNTS_TO = 2**32  # bytes: its last field is the size before packing, but for multiples of this (RFC 1952)
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def unpacked_bytes(path: Path) -> int:
    """About how many bytes of voxels a file holds, or a folder of DICOM slices; 0 if it cannot be opened."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir())
        size = path.stat().st_size
        if path.suffix.lower() in PICTURES:
            return PACKED * size
        if path.suffix.lower() != ".gz":
            return size
        with path.open("rb") as file:
            file.seek(-min(4, size), 2)
            told = int.from_bytes(file.read(4), "little")
    except OSError:
        return 0
    return told if size < GZIP_COUNTS_TO // PACKED and told >= size else PACKED * size

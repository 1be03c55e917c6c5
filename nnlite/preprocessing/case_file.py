"""One preprocessed case in one file: arrays that are mapped into memory, and text beside them.

The format is that of safetensors (github.com/huggingface/safetensors, "Format"): eight bytes with the length of a JSON
header, the header with type, shape and place of each array and text under "__metadata__", then the arrays. Nothing in
it can run, and other programs read it. It is written here array by array: the library would first put all of them into
one piece of memory.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnlite.data.records import written_whole
from nnlite.errors import WorkspaceError

DTYPES = {"F32": "<f4", "U8": "|u1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
TEXT = "__metadata__"
ALIGNMENT = 64  # bytes that the first array begins at a multiple of: a line of a processor's cache


def write_case_file(path: Path, arrays: Mapping[str, np.ndarray], text: Mapping[str, str]) -> None:
    """Write arrays of the types in ``DTYPES``, and text; the file appears whole. A full disk is a WorkspaceError."""
    # the widest types first, so that each array begins at a multiple of its own width
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, object] = {TEXT: dict(text)}
    place = 0
    for name, array in ordered:
        offsets = [place, place + array.nbytes]
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        place += array.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-(8 + len(head)) % ALIGNMENT)
    with written_whole(path) as beside, beside.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array).data)


def map_case_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file by name, mapped and not to be written to, and its text; WorkspaceError if it is damaged.

    All arrays share one map and its file handle, which are given back with the last of them.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        begin = 8 + int.from_bytes(mapped[:8], "little")
        header = json.loads(mapped[8:begin])
        text = header.pop(TEXT)
        arrays = {
            name: np.ndarray(
                entry["shape"], DTYPES[entry["dtype"]], buffer=mapped, offset=begin + entry["data_offsets"][0]
            )
            for name, entry in header.items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(
            f"{path} is missing or damaged ({error}); delete {path.parent} and run nnlite preprocess again"
        ) from error
    return arrays, text

"""Look into a file without reading all of it: a damaged or hostile one is refused before it takes memory."""

from __future__ import annotations

import mmap
from pathlib import Path

from nnlite.errors import NnliteError


def mapped(path: Path, *, error: type[NnliteError]) -> memoryview:
    """The bytes of a file, read from the disk where they are looked at; ``error`` if it is missing, empty or no file.

    The system lets go of the file when nobody holds the view any more.
    """
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError as problem:  # mmap's way to say that there is nothing to look at
        raise error(f"{path} cannot be read: it is empty; copy it again") from problem
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem

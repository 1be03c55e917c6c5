"""Tell whether files still hold what they held: a short text per group of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

DIGEST_LETTERS = 16  # 64 bits: other content has the same digest by chance once in 10^19 times


def digest(paths: Iterable[Path]) -> str:
    """The beginning of a SHA-256 over the contents of these files in their order; names and dates do not count."""
    content = hashlib.sha256()
    for path in paths:
        for part in (path, *_beside(path)):
            with part.open("rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:DIGEST_LETTERS]


def _beside(path: Path) -> Iterator[Path]:
    """The voxels of an .mhd file, which is a header only; they lie beside it by custom."""
    if path.suffix.lower() == ".mhd":
        yield from (file for suffix in (".raw", ".zraw") if (file := path.with_suffix(suffix)).exists())

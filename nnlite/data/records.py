"""Settings on disk: frozen dataclasses as strict, versioned JSON files that appear whole.

A record is a stdlib dataclass. Unknown keys, missing keys and values of the wrong type are errors that name the file
and the key. Files are written beside their final place, flushed to the disk and then renamed, so that neither a reader
nor a power cut ever leaves half a file.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

from nnlite.errors import NnliteError, WorkspaceError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT_VERSION = 1  # raised whenever a record changes in a way an older nnlite cannot read

UMASK = os.umask(0)  # to ask for it is to set it, for all threads: asked once
os.umask(UMASK)

LARGEST_RECORD_BYTES = 2**28  # a dataset.json of a hundred thousand cases takes a tenth of that

WRITING = ".writing-"  # how names begin of what is not whole yet; the number of the process follows, see leftovers.py

T = TypeVar("T")

_adapters: dict[Any, TypeAdapter[Any]] = {}  # by kind of record: to make one takes milliseconds


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass that can be written to disk and refuses unknown keys on the way in.

    >>> @record
    ... class Size:
    ...     depth: int
    >>> from_json('{"format_version": 1, "depth": 3}', Size, source="size.json")
    Size(depth=3)
    """
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` (same suffix); on success it is renamed to ``path``, else removed.

    A full or read-only disk becomes a ``WorkspaceError`` that names the file.
    """
    beside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        suffixes = "".join(path.suffixes[-2:])
        descriptor, name = tempfile.mkstemp(prefix=f"{WRITING}{os.getpid()}-", suffix=suffixes, dir=path.parent)
        os.close(descriptor)
        beside = Path(name)
        yield beside
        _flush(beside)
        beside.chmod(0o666 & ~UMASK)
        beside.replace(path)
        beside = None
    except OSError as error:
        raise _disk_error(path, error) from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the system write a file out: a rename may otherwise survive a power cut that its content does not."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it appears whole."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as indented JSON with its ``format_version``."""
    write_text(path, to_json(record))


def to_json(record: Any) -> str:
    """A dataclass as indented JSON text, ``format_version`` first."""
    content = _adapter(type(record)).dump_python(record, mode="json")
    return json.dumps({"format_version": FORMAT_VERSION, **content}, indent=2) + "\n"


def read_record(path: Path, kind: type[T], *, error: type[NnliteError] = WorkspaceError) -> T:
    """Read what ``write_record`` wrote; anything unexpected raises ``error`` naming the file and the key."""
    try:
        if (size := path.stat().st_size) > LARGEST_RECORD_BYTES:
            raise error(f"{path} has {size} bytes; no such file of nnlite has more than {LARGEST_RECORD_BYTES}")
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{path} is no text: {problem}") from problem
    return from_json(text, kind, source=str(path), error=error)


def from_json(text: str, kind: type[T], *, source: str, error: type[NnliteError] = WorkspaceError) -> T:
    """Read a record from JSON text; ``source`` is how error messages call it."""
    from pydantic import ValidationError

    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as problem:  # the latter for brackets within brackets without end
        raise error(f"{source} is not valid JSON: {problem}") from problem
    if not isinstance(content, dict):
        raise error(f"{source} should hold one JSON object")
    version = content.pop("format_version", None)
    if type(version) is int and version > FORMAT_VERSION:
        raise error(
            f"{source} was written by a newer nnlite: it has format_version {version}, and this nnlite reads "
            f"{FORMAT_VERSION}; update nnlite"
        )
    if type(version) is not int or version != FORMAT_VERSION:  # true would be 1
        raise error(f"{source} has format_version {version}, this nnlite reads {FORMAT_VERSION}; make the file again")
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as problem:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in problem.errors())
        raise error(f"{source}: {faults}") from problem


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """What checks and dumps a kind of record."""
    from pydantic import TypeAdapter

    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _disk_error(path: Path, error: OSError) -> WorkspaceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkspaceError(
            f"the disk is full: {path} could not be written; free some space (or choose another folder) and run "
            "the same command again, finished work is kept"
        )
    return WorkspaceError(
        f"{path} could not be written: {error.strerror or error}; check the folder and its permissions"
    )

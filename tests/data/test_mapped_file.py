"""A file is looked at without being read; what is none is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlite.data.mapped_file import mapped
from nnlite.errors import CheckpointError


def test_the_bytes_of_a_file_are_seen(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"content")
    assert mapped(tmp_path / "a", error=CheckpointError) == b"content"


def test_a_terabyte_is_looked_at_without_memory_for_it(tmp_path: Path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    assert bytes(mapped(tmp_path / "a", error=CheckpointError)[-3:]) == b"\0\0\0"


def test_what_cannot_be_looked_at_is_an_error_in_words(tmp_path: Path):
    (tmp_path / "empty").touch()
    for name, message in {"empty": "it is empty", "missing": "No such file", ".": "Is a directory"}.items():
        with pytest.raises(CheckpointError, match=f"cannot be read: {message}"):
            mapped(tmp_path / name, error=CheckpointError)

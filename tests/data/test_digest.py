from __future__ import annotations

from pathlib import Path

from nnlite.data.digest import file_digest


def test_a_digest_follows_the_content_and_not_the_name(tmp_path: Path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    assert file_digest(first) == file_digest(second)
    second.write_bytes(b"Weights")
    assert file_digest(first) != file_digest(second)


def test_a_digest_is_the_beginning_of_the_sha_256(tmp_path: Path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea"  # of "abc", FIPS 180-2, appendix B.1

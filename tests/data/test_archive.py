"""An archive comes back as it was written; one in which a single bit is another is refused."""

from __future__ import annotations

import hashlib
import random
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from full_disk import disk_for_1_kb

from nnlite.data import archive
from nnlite.data.archive import MANIFEST, Manifest, Member, open_archive, write_archive
from nnlite.data.records import to_json
from nnlite.errors import CheckpointError, WorkspaceError

NAMES = re.compile(r"[ab]\.txt|deep/c\.bin")
CONTENTS = {"a.txt": b"first", "b.txt": b"", "deep/c.bin": bytes(range(256)) * 9}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive one of whose members comes from a file."""
    (tmp_path / "c").write_bytes(CONTENTS["deep/c.bin"])
    write_archive(tmp_path / "x.nnlite", {**CONTENTS, "deep/c.bin": tmp_path / "c"}, {"nnlite": "1"})
    return tmp_path / "x.nnlite"


def test_an_archive_comes_back(path: Path):
    read = open_archive(path, NAMES)
    assert {name: bytes(content) for name, content in read.contents.items()} == CONTENTS
    assert read.manifest.versions == {"nnlite": "1"}
    assert [member.size for member in read.manifest.members] == [5, 0, 256 * 9]
    assert read.text("a.txt") == "first"


def test_other_programs_for_zip_find_nothing_wrong_with_it(path: Path):
    with zipfile.ZipFile(path) as other:
        assert other.testzip() is None
        assert other.namelist() == [MANIFEST, *CONTENTS]
        assert all(other.read(name) == content for name, content in CONTENTS.items())
        assert other.comment == b"sha256:" + hashlib.sha256(other.read(MANIFEST)).hexdigest().encode()


def test_the_same_contents_make_the_same_bytes(path: Path, tmp_path: Path):
    write_archive(tmp_path / "again", CONTENTS, {"nnlite": "1"})
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_every_flipped_bit_is_noticed(path: Path):
    """The header at the beginning and the end record bit by bit, the rest by samples."""
    content, rng = path.read_bytes(), random.Random(0)
    flips = [(place, bit) for place in (*range(30), *range(len(content) - 93, len(content) - 71)) for bit in range(8)]
    flips += [(rng.randrange(len(content)), rng.randrange(8)) for _ in range(300)]
    for place, bit in flips:
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            open_archive(path, NAMES)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_an_archive_that_was_cut_off_is_refused(path: Path, share: float):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"x\.nnlite"):
        open_archive(path, NAMES)


def test_bytes_behind_the_end_are_refused(path: Path):
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match=r"damaged, or was changed: \d+ bytes are expected, \d+ are there"):
        open_archive(path, NAMES)


def test_what_another_program_has_packed_is_refused(path: Path, tmp_path: Path):
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "other", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match="other is"):
        open_archive(tmp_path / "other", NAMES)


def put_together(path: Path, change: Callable[[Manifest], Manifest], contents: list[bytes]) -> None:
    """An archive like nnlite's, to the last byte, but for what its manifest says."""
    manifest = change(Manifest(versions={}, members=tuple(archive._measured(name, c) for name, c in CONTENTS.items())))
    text = to_json(manifest).encode()
    members = tuple(
        replace(one, size=min(max(one.size, 0), 2**63), crc32=one.crc32 % 2**32) for one in manifest.members
    )
    frame = archive._frame(text, members)
    path.write_bytes(b"".join(h + c for h, c in zip(frame.headers, (text, *contents), strict=True)) + frame.end)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../a.txt"}, r"has a member '\.\./a\.txt'"),
        ({"name": "/a.txt"}, "has a member '/a.txt'"),
        ({"name": "C:\\a.txt"}, "has a member"),
        ({"name": "b.txt"}, "'b.txt', or two"),
        ({"name": "A.TXT"}, "has a member 'A.TXT'"),
        ({"size": 2**60}, "its members should have 11529215046068"),
        ({"size": -1}, "its members should have"),
        ({"sha256": "0" * 64}, r"a\.txt does not fit its checksum"),
        ({"crc32": 1}, r"a\.txt does not fit its checksum"),
        ({"crc32": 2**40}, "more than 32 bits"),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, change: dict[str, object], message: str):
    def lie(manifest: Manifest) -> Manifest:
        first, *others = manifest.members
        return replace(manifest, members=(replace(first, **change), *others))  # type: ignore[arg-type]

    put_together(tmp_path / "x.nnlite", lie, list(CONTENTS.values()))
    with pytest.raises(CheckpointError, match=message):
        open_archive(tmp_path / "x.nnlite", NAMES)


def test_more_members_than_any_model_has_are_refused(tmp_path: Path):
    empty = Member(name="a.txt", size=0, sha256=hashlib.sha256().hexdigest(), crc32=zlib.crc32(b""))
    put_together(tmp_path / "x.nnlite", lambda manifest: replace(manifest, members=(empty,) * 1001), [b""] * 1001)
    with pytest.raises(CheckpointError, match="1001 members; none that nnlite writes has more than 1000"):
        open_archive(tmp_path / "x.nnlite", NAMES)


def test_a_member_that_is_missing_or_no_text_is_told_of(tmp_path: Path):
    write_archive(tmp_path / "x", {"a.txt": b"\xff\xfe"}, {})
    read = open_archive(tmp_path / "x", NAMES)
    with pytest.raises(CheckpointError, match=r"a\.txt of .* is no text"):
        read.text("a.txt")
    with pytest.raises(CheckpointError, match=r"lacks its b\.txt"):
        read.text("b.txt")


def test_a_file_that_changes_while_it_is_packed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "c").write_bytes(b"before")
    measured = archive._measured

    def changed_after(name: str, content: bytes | memoryview | Path) -> Member:
        found = measured(name, content)
        if isinstance(content, Path):
            content.write_bytes(b"later!")
        return found

    monkeypatch.setattr(archive, "_measured", changed_after)
    with pytest.raises(WorkspaceError, match="changed meanwhile"):
        write_archive(tmp_path / "x", {"a.txt": tmp_path / "c"}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_what_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path):
    with disk_for_1_kb(), pytest.raises(WorkspaceError, match="x could not be written"):
        write_archive(tmp_path / "x", CONTENTS, {})
    assert list(tmp_path.iterdir()) == []

"""Several files as one that can be handed on: a ZIP archive of which every bit is accounted for.

The members are stored as they are, the first of them a manifest with the size and the SHA-256 of each other one. From
the manifest follows every byte around the members, because nnlite writes only one kind of archive (PKWARE APPNOTE 6.3,
ZIP64 throughout, no dates, no attributes). So a reader takes nothing on trust: it works out what has to lie around the
members and compares. Compressed members, links, two members of one name, sizes that contradict each other, and whatever
else the format allows, cannot occur. Any other program for ZIP can look into the archive, too.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nnlite.data.mapped_file import mapped
from nnlite.data.records import from_json, record, to_json, written_whole
from nnlite.errors import CheckpointError, WorkspaceError

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 2**20  # that of a thousand members takes a fifth
MOST_MEMBERS = 1000  # ten folds of four configurations need fifty
PART_BYTES = 2**24  # read, hashed and written at once

ZIP64_VERSION = 45  # of the format: the first with sizes beyond 4 GiB
NO_DATE = 0x21  # the first of January 1980, where the format's time begins
IN_EXTRA_16, IN_EXTRA_32 = 0xFFFF, 0xFFFFFFFF  # in place of a number: it stands where it has 64 bits
EXTRA = 1  # what marks the 64 bits
LOCAL, LOCAL_EXTRA = struct.Struct("<4s5H3L2H"), struct.Struct("<2H2Q")  # before a member; its name lies between
CENTRAL, CENTRAL_EXTRA = struct.Struct("<4s6H3L5H2L"), struct.Struct("<2H3Q")  # the same again in the directory
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
END = struct.Struct("<4s4H2LH")
BEFORE_MANIFEST = LOCAL.size + len(MANIFEST) + LOCAL_EXTRA.size


@record
class Member:
    """A file in the archive; ``crc32`` is what ZIP wants besides."""

    name: str
    size: int
    sha256: str
    crc32: int


@record
class Manifest:
    """What lies in an archive, in its order, and the ``versions`` of the programs that wrote it."""

    versions: dict[str, str]
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive that was read and found whole."""

    path: Path
    manifest: Manifest
    contents: Mapping[str, memoryview]

    def text(self, name: str) -> str:
        """A member as text; ``CheckpointError`` if it is not there or is none."""
        try:
            return str(self.contents[name], encoding="utf-8")
        except KeyError:
            raise CheckpointError(f"{self.path} lacks its {name}") from None
        except UnicodeDecodeError as problem:
            raise CheckpointError(f"{name} of {self.path} is no text: {problem}") from problem


def write_archive(path: Path, contents: Mapping[str, bytes | Path], versions: Mapping[str, str]) -> Manifest:
    """Write ``contents``, by name bytes or the file that holds them, so that the archive appears whole.

    What was written is read again before it gets its name. ``WorkspaceError`` if a file changes meanwhile.
    """
    members = tuple(_measured(name, content) for name, content in contents.items())
    manifest = Manifest(versions=dict(versions), members=members)
    text = to_json(manifest).encode()
    frame = _frame(text, members)
    with written_whole(path) as beside:
        with beside.open("wb") as file:
            for header, content in zip(frame.headers, (text, *contents.values()), strict=True):
                file.write(header)
                for part in _parts(content):
                    file.write(part)
            file.write(frame.end)
        try:
            open_archive(beside, re.compile("|".join(map(re.escape, contents))))
        except CheckpointError as error:
            raise WorkspaceError(
                f"{path} could not be written: a file that belongs into it changed meanwhile"
            ) from error
    return manifest


def open_archive(path: Path, names: re.Pattern[str]) -> Archive:
    """Look into an archive all of whose members have ``names``; ``CheckpointError`` tells what is wrong with it.

    Nothing is read into memory but the manifest. Sizes are compared with the file's before anything is looked at, and
    the members with their SHA-256.
    """
    content = mapped(path, error=CheckpointError)
    text = _manifest_text(path, content)
    manifest = from_json(text, Manifest, source=f"{MANIFEST} of {path}", error=CheckpointError)
    _require_possible(path, manifest, names, len(content))
    frame = _frame(text.encode(), manifest.members)
    place, contents = 0, {}
    sizes = [len(text.encode()), *(member.size for member in manifest.members)]
    for number, (header, size) in enumerate(zip(frame.headers, sizes, strict=True)):
        start = place + len(header)
        if content[place:start] != header:
            raise CheckpointError(_damaged(path, "it is not put together as nnlite does that"))
        if number:
            contents[manifest.members[number - 1].name] = content[start : start + size]
        place = start + size
    if content[place:] != frame.end:
        raise CheckpointError(_damaged(path, f"{place + len(frame.end)} bytes are expected, {len(content)} are there"))
    for member in manifest.members:
        if _measured(member.name, contents[member.name]) != member:
            raise CheckpointError(_damaged(path, f"{member.name} does not fit its checksum"))
    return Archive(path=path, manifest=manifest, contents=contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Every byte of an archive that is no member's: a header before each member, the manifest's first, and the end."""

    headers: tuple[bytes, ...]
    end: bytes


def _frame(manifest: bytes, members: tuple[Member, ...]) -> _Frame:
    """The frame of these members. The comment at the very end is the SHA-256 of the manifest."""
    first = Member(name=MANIFEST, size=len(manifest), sha256="", crc32=zlib.crc32(manifest))
    place, headers, directory = 0, [], b""
    for member in (first, *members):
        name = member.name.encode()
        known = (ZIP64_VERSION, 0, 0, 0, NO_DATE, member.crc32, IN_EXTRA_32, IN_EXTRA_32, len(name))
        start = LOCAL.pack(b"PK\3\4", *known, LOCAL_EXTRA.size)
        headers.append(start + name + LOCAL_EXTRA.pack(EXTRA, 16, member.size, member.size))
        directory += CENTRAL.pack(b"PK\1\2", ZIP64_VERSION, *known, CENTRAL_EXTRA.size, 0, 0, 0, 0, IN_EXTRA_32)
        directory += name + CENTRAL_EXTRA.pack(EXTRA, 24, member.size, member.size, place)
        place += len(headers[-1]) + member.size
    count, after = len(headers), place + len(directory)
    end = END_64.pack(
        b"PK\6\6", END_64.size - 12, ZIP64_VERSION, ZIP64_VERSION, 0, 0, count, count, len(directory), place
    )
    end += LOCATOR.pack(b"PK\6\7", 0, after, 1)
    comment = b"sha256:" + hashlib.sha256(manifest).hexdigest().encode()
    end += END.pack(b"PK\5\6", 0, 0, IN_EXTRA_16, IN_EXTRA_16, IN_EXTRA_32, IN_EXTRA_32, len(comment)) + comment
    return _Frame(headers=tuple(headers), end=directory + end)


def _manifest_text(path: Path, content: memoryview) -> str:
    """The manifest, which lies behind the very first header."""
    header = bytes(content[:BEFORE_MANIFEST])
    name, extra = header[LOCAL.size : -LOCAL_EXTRA.size], header[-LOCAL_EXTRA.size :]
    if len(header) < BEFORE_MANIFEST or name != MANIFEST.encode():
        raise CheckpointError(f"{path} is no model file, or was cut off; nnlite export writes such files")
    _, _, size, _ = LOCAL_EXTRA.unpack(extra)
    if size > min(LARGEST_MANIFEST, len(content) - BEFORE_MANIFEST):
        raise CheckpointError(_damaged(path, f"its manifest cannot have {size} bytes"))
    try:
        return str(content[BEFORE_MANIFEST : BEFORE_MANIFEST + size], encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise CheckpointError(_damaged(path, f"its manifest is no text: {problem}")) from problem


def _require_possible(path: Path, manifest: Manifest, names: re.Pattern[str], available: int) -> None:
    """Raise ``CheckpointError`` for names and sizes that no archive of nnlite has, or that the file has no room for."""
    listed = [member.name for member in manifest.members]
    if len(listed) > MOST_MEMBERS:
        raise CheckpointError(f"{path} has {len(listed)} members; none that nnlite writes has more than {MOST_MEMBERS}")
    for name in listed:
        if not names.fullmatch(name) or listed.count(name) > 1:
            raise CheckpointError(f"{path} has a member {name!r}, or two, which does not belong there")
    sizes = [member.size for member in manifest.members]
    if min(sizes, default=0) < 0 or sum(sizes) > available:
        raise CheckpointError(
            _damaged(path, f"its members should have {sum(sizes)} bytes, and the whole file has {available}")
        )
    if not all(0 <= member.crc32 <= IN_EXTRA_32 for member in manifest.members):
        raise CheckpointError(_damaged(path, "its manifest has a CRC-32 of more than 32 bits"))


def _damaged(path: Path, what: str) -> str:
    return f"{path} is damaged, or was changed: {what}; copy it again, or export the model anew"


def _measured(name: str, content: bytes | memoryview | Path) -> Member:
    """Size and checksums of a file, or of bytes."""
    digest, crc32, size = hashlib.sha256(), 0, 0
    for part in _parts(content):
        digest.update(part)
        crc32 = zlib.crc32(part, crc32)
        size += len(part)
    return Member(name=name, size=size, sha256=digest.hexdigest(), crc32=crc32)


def _parts(content: bytes | memoryview | Path) -> Iterator[bytes | memoryview]:
    """The content some bytes at a time."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            yield from _read_parts(file)
    else:
        view = memoryview(content)
        for start in range(0, len(view), PART_BYTES):
            yield view[start : start + PART_BYTES]


def _read_parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(PART_BYTES):
        yield part

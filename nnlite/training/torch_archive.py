"""What torch does not look at when it opens an archive of its own: that it swells to no more than it has on the disk.

``torch.load`` with ``weights_only`` runs no code. But members may be compressed, a thousandfold and more, and a tensor
may claim any number of values of a single stored one; whoever then converts it takes memory for all of them.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

from torch import Tensor


def require_stored(file: Path | IO[bytes]) -> None:
    """Raise ``ValueError`` unless all members of an archive are stored as they are, one after the other, undamaged."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, which torch never does")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it has two members of one name")
        end = 0
        for member in sorted(members, key=lambda one: one.header_offset):
            if member.header_offset < end or member.file_size != member.compress_size:
                raise ValueError("its members overlap")
            end = member.header_offset + member.compress_size
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{damaged} in it does not fit its CRC-32")


def require_held(content: Any) -> None:
    """Raise ``ValueError`` if a tensor, anywhere in nested tables and lists, has more values than are stored for it."""
    waiting, seen = [content], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            if one.device.type == "meta" or one.numel() * one.element_size() > one.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(one.shape)} has fewer values than that")
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple | set):
            waiting += one

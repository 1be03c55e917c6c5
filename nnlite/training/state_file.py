"""The state of a training on disk: two generations, each with a checksum, so that a damaged one costs minutes.

A state is a ``torch.save`` archive that is read with ``weights_only=True``: nothing in it can run. The archive is a ZIP
file (PKWARE APPNOTE 6.3), and torch does not look at its checksums; so the SHA-256 of all before it is put where ZIP
has a place for such remarks, in the comment at the very end. ``torch.load`` reads the file as before.
"""

from __future__ import annotations

import hashlib
import io
import logging
import struct
from pathlib import Path
from typing import Any

import torch

from nnlite.data.records import written_whole
from nnlite.errors import CheckpointError
from nnlite.training.torch_archive import require_held, require_stored

END_RECORD = struct.Struct("<4s4H2LH")  # signature, .., length of the comment
END_SIGNATURE = b"PK\x05\x06"
MARK = b"sha256:"
COMMENT_BYTES = len(MARK) + 2 * hashlib.sha256().digest_size  # the digest in hexadecimal

logger = logging.getLogger(__name__)


def save_state(path: Path, state: dict[str, Any], *, previous: Path) -> None:
    """Write nested dictionaries and lists of tensors, numbers and text; the state that was at ``path`` stays as
    ``previous``. At every moment one of the two is whole.
    """
    archive = io.BytesIO()
    torch.save(state, archive)
    content = archive.getbuffer()
    *record, _ = END_RECORD.unpack(content[-END_RECORD.size :])
    END_RECORD.pack_into(content, len(content) - END_RECORD.size, *record, COMMENT_BYTES)
    with written_whole(path) as beside:
        with beside.open("wb") as file:  # not torch.save: its error hides that the disk is full
            file.write(content)
            file.write(_comment(content))
        if path.exists():
            path.replace(previous)


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state; ``CheckpointError`` if the file is missing, damaged or not of this kind."""
    try:
        content = memoryview(path.read_bytes())
        if bytes(content[-COMMENT_BYTES:]) != _comment(content[:-COMMENT_BYTES]):
            raise CheckpointError(f"{path} is damaged: its content does not fit its checksum")
        require_stored(io.BytesIO(content))
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        require_held(state)
        return state
    except CheckpointError:
        raise
    except Exception as error:  # a file of another kind fails in many ways, each with an error of its own
        raise CheckpointError(f"{path} cannot be read as a training state ({error})") from error


def load_newest(last: Path, previous: Path, device: torch.device) -> tuple[Path, dict[str, Any]]:
    """The newest state that can be read, and its file; a warning tells of a damaged one.

    ``CheckpointError`` tells of both if neither can be read.
    """
    faults = []
    for path in (last, previous):
        try:
            state = load_state(path, device)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        if faults and last.exists():  # else the process was killed between two renames, and nothing is lost
            logger.warning("%s; training goes on from the one before it, %s", faults[0], path)
        return path, state
    raise CheckpointError(f"{'; '.join(faults)}; delete {last.parent} to begin anew")


def _comment(archive: memoryview) -> bytes:
    return MARK + hashlib.sha256(archive).hexdigest().encode()

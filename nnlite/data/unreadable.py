"""Why a file cannot be read, in plain words: before SimpleITK opens it, and what to make of its own account after.

Beside ``image.py``, which asks; what is looked for in a file is in ``integrity.py``.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

from nnlite.data.integrity import examine, is_packed
from nnlite.errors import ImageError

ITK_OBJECT = re.compile(r"(ITK ERROR: )?\w+\(0x[0-9a-f]+\): ")  # who speaks means nothing to a user
NO_REASON = ("No such file", "Error while reading file")  # ITK says so of whatever it does not understand


def examined(path: Path, suffix: str) -> int:
    """The number of NaN that a whole file holds; ``ImageError`` if it is none."""
    try:
        if not path.is_file():
            what = "is a folder, not a file; give the image itself" if path.is_dir() else absent(path)
            raise ImageError(f"{path}: {what}")
        integrity = examine(path, suffix)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if integrity.problem:
        raise ImageError(f"{path}: {integrity.problem}; {integrity.remedy}")
    return integrity.not_finite


def no_image(suffix: str) -> str:
    """What is told of a file whose content is not what its name says."""
    return f"is no {suffix} image: damaged, or another kind of file under this name; get the file again"


def absent(path: Path) -> str:
    """Why there is no such file."""
    if not path.is_symlink():
        return "does not exist; see whether its name and its folder are right"
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself; copy the file here, or correct the link"
    return "is a link to a file that does not exist; copy the file here, or correct the link"


def cause(error: RuntimeError, path: Path, suffix: str) -> str:
    """SimpleITK's account of a failed reading in plain words."""
    text = str(error)
    if "determine ImageIO" in text and suffix == ".nii" and is_packed(path):
        return "is compressed, as a .nii.gz file is; rename it to .nii.gz"
    if "determine ImageIO" in text:
        return no_image(suffix)
    if "Refusing to change spacing" in text or "space vector" in text:
        return "the spacing in its header is not positive, or no number; correct its header"
    if "determinant is 0" in text:
        return "its axes lie in one plane or are empty, so that it has no place in the patient; correct its header"
    if "bytes but received" in text or "fread got only" in text or "data not read completely" in text:
        return "the file is cut short; get the file again"
    reason = ITK_OBJECT.sub("", last_line(error))
    told = "" if any(text in reason for text in NO_REASON) else f" ({reason})"
    return f"cannot be read, its header or its voxels are damaged{told}; get the file again"


def last_line(error: RuntimeError) -> str:
    """The end of a long account, which is its point."""
    return str(error).strip().splitlines()[-1]

"""The headers of DICOM files: what kind of object a file holds, and where its slices lie in the patient.

Enters before any voxel is read. Files of one slice (CT, MR, PET, ..) and enhanced files of many frames look the same
afterwards: one ``Frame`` for each slice. pydicom, which the extra ``dicom`` installs, is loaded when it is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnlite.errors import ImageError, UsageError

if TYPE_CHECKING:
    import pydicom

MAGIC, MAGIC_OFFSET = b"DICM", 128  # every DICOM file says so after a preamble (PS3.10)
SUFFIX = ".dcm"  # usual, not required
SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # the second: label map (2024)
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
NOT_READABLE = (AttributeError, EOFError, LookupError, TypeError, ValueError, struct.error)  # what pydicom raises


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One slice: where it is in its file and in the patient, and how its stored values become physical ones.

    ``position_mm`` is the centre of the first voxel, ``orientation`` the directions of a row and of a column, all
    (x, y, z) as DICOM has them; None where the file does not tell. ``spacing_mm`` and ``shape`` are (rows, columns).
    """

    path: Path
    number: int
    instance_uid: str
    shape: tuple[int, int]
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slope: float
    intercept: float


def require_pydicom() -> Any:
    """The library pydicom, quiet about harmless departures from the standard; ``UsageError`` where it is missing."""
    try:
        import pydicom
        import pydicom.config
    except ImportError as error:
        raise UsageError("DICOM files are read with pydicom; install it with: pip install 'nnlite[dicom]'") from error
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # numbers of 18 digits are everywhere
    return pydicom


def is_dicom(path: Path) -> bool:
    """Whether a file is marked as DICOM, by its content or its name; the file is not read further."""
    if path.name.startswith(".") or not path.is_file():
        return False
    return path.suffix.lower() == SUFFIX or _has_magic(path)


def holds_dicom(folder: Path) -> bool:
    """Whether DICOM files lie directly in a folder."""
    return folder.is_dir() and any(is_dicom(file) for file in sorted(folder.iterdir()))


def is_series(path: Path) -> bool:
    """Whether a path is read as DICOM: a folder of slices, or one file of many frames.

    >>> is_series(Path("scan.nii.gz"))
    False
    """
    return path.suffix.lower() == SUFFIX if path.is_file() else holds_dicom(path)


def read_header(path: Path, *, pixels: bool = False) -> pydicom.Dataset:
    """A DICOM file, without its pixels unless ``pixels``; ``ImageError`` naming the file and the remedy."""
    pydicom = require_pydicom()
    try:
        if not _has_magic(path):
            raise ImageError(f"{path}: is no DICOM file, or a damaged one; get the file again, or remove it")
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror or error}); check its permissions") from error
    except NOT_READABLE as error:
        raise ImageError(f"{path}: is cut short or damaged ({error}); get the file again") from error


def headers(path: Path) -> Iterator[tuple[Path, pydicom.Dataset]]:
    """Every DICOM file directly in a folder, or the file itself, with its header; sorted by name."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if is_dicom(file):
            yield file, read_header(file)


def is_image(header: pydicom.Dataset) -> bool:
    """Whether an object is an image, not a segmentation, structure set, dose, report or directory."""
    kind = header.get("SOPClassUID")
    if kind is None or kind in SEGMENTATION:
        return False
    return "Image Storage" in kind.name or (kind.name == kind and "Rows" in header)  # private kinds have no name


def holds_images(folder: Path) -> bool:
    """Whether a folder holds slices, not only other DICOM objects; a file that cannot be read counts, to be told of."""
    try:
        return any(is_image(header) for _, header in headers(folder))
    except ImageError:
        return True


def frames(path: Path, header: pydicom.Dataset) -> tuple[Frame, ...]:
    """The slices of an image; what an enhanced file tells once for all frames counts for each."""
    try:
        count = int(header.get("NumberOfFrames") or 1)
        return tuple(_frame(path, header, number) for number in range(count))
    except NOT_READABLE as error:
        raise ImageError(f"{path}: its header is cut short or damaged ({error}); get the file again") from error


def frame_value(header: pydicom.Dataset, number: int) -> Callable[[str, str], Any]:
    """How to ask for a property of one frame: in its own functional groups, in those of all frames, or at the top."""
    own = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence")
    places = [*([own[number]] if own else []), *(shared or [])[:1]]

    def value(group: str, keyword: str) -> Any:
        for place in places:
            for item in place.get(group) or ():
                if keyword in item:
                    return item[keyword].value
        return header.get(keyword)

    return value


def _frame(path: Path, header: pydicom.Dataset, number: int) -> Frame:
    value = frame_value(header, number)

    def numbers(group: str, keyword: str) -> tuple[float, ...] | None:
        found = value(group, keyword)
        return tuple(map(float, found)) if found else None

    slope = value("PixelValueTransformationSequence", "RescaleSlope")
    intercept = value("PixelValueTransformationSequence", "RescaleIntercept")
    return Frame(
        path=path,
        number=number,
        instance_uid=str(header.SOPInstanceUID),
        shape=(int(header.Rows), int(header.Columns)),
        position_mm=numbers("PlanePositionSequence", "ImagePositionPatient"),
        orientation=numbers("PlaneOrientationSequence", "ImageOrientationPatient"),
        spacing_mm=numbers("PixelMeasuresSequence", "PixelSpacing"),
        slope=1.0 if slope in (None, "") else float(slope),
        intercept=0.0 if intercept in (None, "") else float(intercept),
    )


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(MAGIC_OFFSET)
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return path.suffix.lower() == SUFFIX  # opening it again tells why

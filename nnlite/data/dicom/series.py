"""Which DICOM files belong together, and which series of a folder is meant.

After ``headers.py``, before ``stack.py``. The rule where nobody chooses: the series with most slices that have a place
in the patient; where two are equally long, the user is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnlite.data.dicom.headers import Frame, frames, headers, is_image
from nnlite.errors import ImageError

if TYPE_CHECKING:
    import pydicom

LISTED_SERIES = 12  # as many as a message can hold

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The slices of one series in the order of their files, and what the series is called."""

    folder: Path
    uid: str
    number: str
    description: str
    modality: str
    patient: str
    frames: tuple[Frame, ...]

    @property
    def placed(self) -> bool:
        """Whether every slice tells where it lies in the patient."""
        return all(f.position_mm and f.orientation and f.spacing_mm for f in self.frames)

    def in_words(self) -> str:
        """The series as it is shown in messages."""
        slices = "1 slice" if len(self.frames) == 1 else f"{len(self.frames)} slices"
        return f'{self.number or "-"} "{self.description}" ({self.modality}, {slices}, {self.uid})'


def read_series(path: Path, wanted: str | None = None) -> Series:
    """The series of a folder of slices, or of one file of many frames.

    ``wanted`` is the UID, number or description of one; None takes the one with most slices and tells of the others in
    the log. Raises ``ImageError`` where none fits, or more than one.
    """
    found = series_in(path)
    if not found:
        raise ImageError(f"{path}: holds no DICOM image, only other objects (reports, segmentations, ..); give images")
    chosen = _longest(path, found) if wanted is None else _named(path, found, wanted)
    if not chosen.placed:
        raise ImageError(
            f"{path}: series {chosen.in_words()} does not tell where its slices lie (Image Position, Image Orientation "
            "or Pixel Spacing is missing); get the original series, or convert pictures to PNG"
        )
    if path.is_file() and len(chosen.frames) == 1:
        raise ImageError(f"{path}: is one slice of a series; give the folder with all of them")
    return chosen


def series_in(path: Path) -> tuple[Series, ...]:
    """All image series whose files lie directly in a folder, in the order of their files."""
    return grouped(path, headers(path))


def grouped(folder: Path, files: Iterable[tuple[Path, pydicom.Dataset]]) -> tuple[Series, ...]:
    """The image series among files with their headers; other objects are left out. Messages name ``folder``."""
    first: dict[str, pydicom.Dataset] = {}
    slices: dict[str, list[Frame]] = {}
    for file, header in files:
        if is_image(header):
            uid = str(header.get("SeriesInstanceUID", ""))
            first.setdefault(uid, header)
            slices.setdefault(uid, []).extend(frames(file, header))
    return tuple(
        Series(
            folder=folder,
            uid=uid,
            number=str(_text(header, "SeriesNumber")),
            description=_text(header, "SeriesDescription"),
            modality=_text(header, "Modality"),
            patient=_text(header, "PatientID"),
            frames=tuple(slices[uid]),
        )
        for uid, header in first.items()
    )


def _longest(path: Path, found: Sequence[Series]) -> Series:
    placed = [series for series in found if series.placed] or list(found)
    most = max(len(series.frames) for series in placed)
    longest = [series for series in placed if len(series.frames) == most]
    if len(longest) > 1:
        raise ImageError(f"{path}: {_several(longest)} are equally long; choose one with --series, or keep one only")
    if len(found) > 1:
        others = "; ".join(series.in_words() for series in found if series is not longest[0])
        logger.warning("%s: series %s has most slices and is read, not: %s", path, longest[0].in_words(), others)
    return longest[0]


def _named(path: Path, found: Sequence[Series], wanted: str) -> Series:
    fits = [series for series in found if wanted == series.uid]
    fits = fits or [series for series in found if wanted == series.number]
    fits = fits or [series for series in found if wanted.casefold() == series.description.casefold()]
    if len(fits) != 1:
        what = f"{len(fits)} series are called" if fits else "no series is called"
        raise ImageError(f'{path}: {what} "{wanted}"; choose one by its UID: {_several(fits or found)}')
    return fits[0]


def _several(found: Sequence[Series]) -> str:
    more = f", and {len(found) - LISTED_SERIES} more" if len(found) > LISTED_SERIES else ""
    return "; ".join(series.in_words() for series in found[:LISTED_SERIES]) + more


def _text(header: pydicom.Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()

"""Preprocessed cases on disk: written once, resumable, read in part.

A case is a few files beside each other. Its arrays are plain .npy files, mapped into memory when a patch is cut from
them, so that a patch is read without the rest; ``<case>.case.json`` is written last, and its presence says that the
case is finished. ``settings.json`` says what the cases were made for: those of another plan are never mistaken for this
one's.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from nnlite.data.records import read_record, record, to_json, write_record, written_whole
from nnlite.errors import WorkspaceError
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.locations import Locations, locate
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration

PREPROCESSING_VERSION = 2  # raised whenever the same plan begins to give other voxels or other files
FINISHED = ".case.json"
ARRAYS = ("image", "label", "previous", "locations", "location_ends")


@record
class Settings:
    """What the cases of a store were made for, as ``signature`` tells it."""

    signature: str


@record
class _Recipe:
    """All of a plan that the voxels of a preprocessed case depend on."""

    preprocessing_version: int
    transpose: tuple[int, int, int]
    channels: tuple[str, ...]
    label_values: tuple[int, ...]
    intensities: tuple[IntensityProperties, ...]
    spacing_mm: tuple[float, ...]
    normalization: tuple[str, ...]
    use_nonzero_mask: tuple[bool, ...]
    previous_stage: str | None


def signature(plan: Plan, configuration: Configuration) -> str:
    """A short text that is the same for plans that preprocess alike, whatever their patches, batches and networks."""
    recipe = _Recipe(
        preprocessing_version=PREPROCESSING_VERSION,
        transpose=plan.transpose,
        channels=plan.channels,
        label_values=plan.labels.values,
        intensities=plan.intensities,
        spacing_mm=configuration.spacing_mm,
        normalization=configuration.normalization,
        use_nonzero_mask=configuration.use_nonzero_mask,
        previous_stage=configuration.previous_stage,
    )
    return hashlib.sha256(to_json(recipe).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCase:
    """A finished case of a store. Arrays are mapped when asked for: thousands of cases take no memory and no handles.

    ``image`` float32 (channels, z, y, x); ``label`` and ``previous`` label indices (z, y, x), or None where there are
    none. Take a region and copy it; the arrays cannot be written to.
    """

    folder: Path
    case_id: str

    @property
    def image(self) -> np.ndarray:
        return _mapped(self._path("image"))

    @property
    def label(self) -> np.ndarray | None:
        return self._mapped_if_there("label")

    @property
    def previous(self) -> np.ndarray | None:
        return self._mapped_if_there("previous")

    @property
    def locations(self) -> Locations | None:
        """Voxels to centre patches on, or None where the case has no label map."""
        label = self.label
        if label is None:
            return None
        voxels, ends = (_mapped(self._path(name)) for name in ("locations", "location_ends"))
        return Locations(shape=label.shape, voxels=voxels, ends=ends)

    @property
    def size_bytes(self) -> int:
        """What the arrays of the case take on disk, and in memory."""
        paths = map(self._path, ARRAYS)
        return sum(path.stat().st_size for path in paths if path.exists())

    @property
    def restoration(self) -> Restoration:
        return read_record(self.folder / f"{self.case_id}{FINISHED}", Restoration)

    def _mapped_if_there(self, array: str) -> np.ndarray | None:
        path = self._path(array)
        return _mapped(path) if path.exists() else None

    def _path(self, array: str) -> Path:
        return self.folder / f"{self.case_id}.{array}.npy"


class CaseStore:
    """The preprocessed cases of one configuration, in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def prepare(self, signature: str) -> int:
        """Make the folder ready for cases of ``signature``; returns how many cases of another were removed.

        Cases that were made for the same signature stay: that is how an interrupted preprocessing goes on.
        """
        settings = self.folder / "settings.json"
        if settings.exists() and read_record(settings, Settings).signature == signature:
            return 0
        outdated = self.ids()
        for ending in (FINISHED, *(f".{array}.npy" for array in ARRAYS)):
            for path in self.folder.glob(f"*{ending}"):
                path.unlink()
        write_record(settings, Settings(signature=signature))
        return len(outdated)

    def require(self, signature: str) -> None:
        """Raise ``WorkspaceError`` unless the cases were made for ``signature``."""
        settings = self.folder / "settings.json"
        if not settings.exists():
            raise WorkspaceError(f"{self.folder} holds no preprocessed cases; run nnlite preprocess first")
        if read_record(settings, Settings).signature != signature:
            raise WorkspaceError(f"the cases in {self.folder} were made for another plan; run nnlite preprocess again")

    def has(self, case_id: str) -> bool:
        """Whether the case is there, whole."""
        return (self.folder / f"{case_id}{FINISHED}").exists()

    def ids(self) -> tuple[str, ...]:
        """Ids of all finished cases, sorted."""
        # [!.]: a file that is being written begins with a dot
        return tuple(sorted(path.name.removesuffix(FINISHED) for path in self.folder.glob(f"[!.]*{FINISHED}")))

    def discard(self, case_id: str) -> None:
        """Forget a case, so that it is made again; nothing happens if it is not there."""
        (self.folder / f"{case_id}{FINISHED}").unlink(missing_ok=True)

    def write(self, case: PreprocessedCase) -> None:
        """Store a case in place of an earlier one of its id. A full disk is a ``WorkspaceError``; other cases stay."""
        finished = self.folder / f"{case.case_id}{FINISHED}"
        finished.unlink(missing_ok=True)
        located = None if case.label is None else locate(case.label, case.case_id)
        tables = (None, None) if located is None else (located.voxels, located.ends)
        for name, array in zip(ARRAYS, (case.image, case.label, case.previous, *tables), strict=True):
            path = self.folder / f"{case.case_id}.{name}.npy"
            if array is None:
                path.unlink(missing_ok=True)
            else:
                _write_array(path, array)
        write_record(finished, case.restoration)

    def share(self, case: StoredCase, restoration: Restoration) -> None:
        """Store the very arrays of another store's case: no second copy where the file system has hard links."""
        finished = self.folder / f"{case.case_id}{FINISHED}"
        finished.unlink(missing_ok=True)
        for name in ARRAYS:
            path, source = self.folder / f"{case.case_id}.{name}.npy", case.folder / f"{case.case_id}.{name}.npy"
            path.unlink(missing_ok=True)
            if source.exists():
                _link(source, path)
        write_record(finished, restoration)

    def open(self, case_id: str) -> StoredCase:
        """A finished case; ``WorkspaceError`` when it is not there."""
        if not self.has(case_id):
            raise WorkspaceError(f"{self.folder} has no preprocessed case {case_id}; run nnlite preprocess")
        return StoredCase(folder=self.folder, case_id=case_id)


def _link(source: Path, path: Path) -> None:
    try:
        path.hardlink_to(source)
    except OSError:  # another kind of file system, or too many links
        with written_whole(path) as beside:
            shutil.copyfile(source, beside)


def _write_array(path: Path, array: np.ndarray) -> None:
    array = np.ascontiguousarray(array)
    # not np.save: on a full disk its fast path raises an error that does not say so
    with written_whole(path) as beside, beside.open("wb") as file:
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
        file.write(array.data)


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise WorkspaceError(
            f"{path} is missing or damaged ({error}); delete {path.parent} and run nnlite preprocess again"
        ) from error

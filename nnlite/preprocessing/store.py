"""Preprocessed cases on disk: written once, resumable, read in part.

A case is one file (``case_file.py``), mapped into memory when a patch is cut from it, so that a patch is read without
the rest. It appears whole: its presence says that the case is finished. ``settings.json`` says what the cases were made
for: those of another plan are never mistaken for this one's.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnlite.data.annotated import Annotated, drawn_channels
from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.data.records import from_json, read_record, record, to_json, write_record, written_whole
from nnlite.errors import WorkspaceError
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.case_file import map_case_file, write_case_file
from nnlite.preprocessing.locations import Locations, locate
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration

PREPROCESSING_VERSION = 4  # raised whenever the same plan begins to give other voxels or other files
SUFFIX = ".safetensors"
RESTORATION = "restoration"  # the text of a case's file that undoes its preprocessing


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
    structures: tuple[tuple[int, ...], ...]
    ignore: int | None
    intensities: tuple[IntensityProperties, ...]
    spacing_mm: tuple[float, ...]
    normalization: tuple[str, ...]
    use_nonzero_mask: tuple[bool, ...]
    previous_stage: str | None
    instances: Instances | None


def signature(plan: Plan, configuration: Configuration) -> str:
    """A short text that is the same for plans that preprocess alike, whatever their patches, batches and networks."""
    recipe = _Recipe(
        preprocessing_version=PREPROCESSING_VERSION,
        transpose=plan.transpose,
        # what the channels hold depends on the grid that they were brought to, and on what is made of them
        channels=(
            *plan.channels,
            *([] if plan.reference is None else [f"on the grid of {plan.reference_channel}"]),
            *(made.in_words() for made in plan.hu_channels),
        ),
        label_values=plan.labels.values,
        structures=plan.labels.members,
        ignore=plan.labels.ignore,
        intensities=plan.intensities,
        spacing_mm=configuration.spacing_mm,
        normalization=configuration.normalization,
        use_nonzero_mask=configuration.use_nonzero_mask,
        previous_stage=configuration.previous_stage,
        instances=plan.labels.instances,
    )
    return hashlib.sha256(to_json(recipe).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCase:
    """The arrays of a case on one grid, mapped or in memory; they cannot be written to.

    ``image`` float32 (channels, z, y, x); ``label`` and ``previous`` label indices (z, y, x), or None where there are
    none. ``locations`` are voxels to centre patches on, None where the case has no label map. ``drawn`` (channels,)
    tells which channels of a network stand for something that is drawn in the case, None where everything is.
    """

    image: np.ndarray
    label: np.ndarray | None
    previous: np.ndarray | None
    locations: Locations | None
    drawn: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCase:
    """A finished case of a store. It is mapped when asked for: thousands of cases take no memory and no handles.

    ``image``, ``label``, ``previous`` and ``locations`` are those of ``OpenCase``; each maps the file anew.
    """

    folder: Path
    case_id: str

    @property
    def path(self) -> Path:
        """The file of the case."""
        return self.folder / f"{self.case_id}{SUFFIX}"

    def mapped(self) -> OpenCase:
        """All arrays, through one map of the file."""
        arrays, _ = map_case_file(self.path)
        label, locations, drawn = arrays.get("label"), None, arrays.get("drawn")
        if label is not None:
            locations = Locations(shape=label.shape, voxels=arrays["locations"], ends=arrays["location_ends"])
        return OpenCase(
            image=arrays["image"],
            label=label,
            previous=arrays.get("previous"),
            locations=locations,
            drawn=None if drawn is None else drawn.view(bool),
        )

    @property
    def image(self) -> np.ndarray:
        return self.mapped().image

    @property
    def label(self) -> np.ndarray | None:
        return self.mapped().label

    @property
    def previous(self) -> np.ndarray | None:
        return self.mapped().previous

    @property
    def locations(self) -> Locations | None:
        return self.mapped().locations

    @property
    def size_bytes(self) -> int:
        """What the case takes on disk, and its arrays in memory."""
        return self.path.stat().st_size

    @property
    def restoration(self) -> Restoration:
        _, text = map_case_file(self.path)
        return from_json(text[RESTORATION], Restoration, source=str(self.path))


class CaseStore:
    """The preprocessed cases of one configuration, in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def is_for(self, signature: str) -> bool:
        """Whether the folder holds cases of ``signature``, or none yet."""
        settings = self.folder / "settings.json"
        return not self.ids() or (settings.exists() and read_record(settings, Settings).signature == signature)

    def prepare(self, signature: str) -> int:
        """Make the folder ready for cases of ``signature``; returns how many cases of another were removed.

        Cases that were made for the same signature stay: that is how an interrupted preprocessing goes on.
        """
        settings = self.folder / "settings.json"
        if settings.exists() and read_record(settings, Settings).signature == signature:
            return 0
        outdated = self.ids()
        for case_id in outdated:
            self.discard(case_id)
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
        return self._case(case_id).path.exists()

    def ids(self) -> tuple[str, ...]:
        """Ids of all finished cases, sorted."""
        # [!.]: a file that is being written begins with a dot
        return tuple(sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"[!.]*{SUFFIX}")))

    def discard(self, case_id: str) -> None:
        """Forget a case, so that it is made again; nothing happens if it is not there."""
        self._case(case_id).path.unlink(missing_ok=True)

    def write(self, case: PreprocessedCase, labels: Labels | None = None, annotated: Annotated | None = None) -> None:
        """Store a case in place of an earlier one of its id. A full disk is a ``WorkspaceError``; other cases stay.

        ``labels`` tells which voxels to note for training: see ``locate``. ``annotated`` are the structures that are
        drawn, None for all.
        """
        self.discard(case.case_id)
        arrays = {"image": case.image}
        if case.label is not None:
            located = locate(case.label, case.case_id, labels, annotated)
            arrays |= {"label": case.label, "locations": located.voxels, "location_ends": located.ends}
        if case.previous is not None:
            arrays["previous"] = case.previous
        if annotated is not None and labels is not None:
            arrays["drawn"] = np.array(drawn_channels(labels, annotated), dtype=np.uint8)
        write_case_file(self._case(case.case_id).path, arrays, {RESTORATION: to_json(case.restoration)})

    def share(self, case: StoredCase) -> None:
        """Store the very file of another store's case: no second copy where the file system has hard links."""
        path = self._case(case.case_id).path
        path.unlink(missing_ok=True)
        try:
            path.hardlink_to(case.path)
        except OSError:  # another kind of file system, or too many links
            with written_whole(path) as beside:
                shutil.copyfile(case.path, beside)

    def open(self, case_id: str) -> StoredCase:
        """A finished case; ``WorkspaceError`` when it is not there."""
        if not self.has(case_id):
            raise WorkspaceError(f"{self.folder} has no preprocessed case {case_id}; run nnlite preprocess")
        return self._case(case_id)

    def _case(self, case_id: str) -> StoredCase:
        return StoredCase(folder=self.folder, case_id=case_id)

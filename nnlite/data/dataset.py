"""Find out what a dataset consists of, by looking at the folder or table a user names.

First step of the pipeline. ``find_dataset`` recognises the layouts of ``layouts.py`` and applies the user's short
``nnlite.json``; ``find_images`` does the same for images to predict. Both open no image (``check.py`` does) and
collect faults instead of stopping at the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnlite.data.bids import bids, is_bids
from nnlite.data.description import DESCRIPTION_FILE, Description, read_description
from nnlite.data.dicom.headers import holds_dicom, holds_images, is_series
from nnlite.data.faults import Fault, in_words
from nnlite.data.image import image_suffix
from nnlite.data.instances import NUMBERED, Instances
from nnlite.data.labels import Labels
from nnlite.data.layouts import (
    SUPPORTED,
    Case,
    Found,
    decathlon,
    group_channels,
    image_files,
    label_table,
    listed,
    pairs,
    read_json,
    stem,
)
from nnlite.data.split import Splits
from nnlite.data.splits_file import SPLITS_FILE, read_splits
from nnlite.data.tables import TABLE_SUFFIXES, case_list
from nnlite.errors import DatasetError

__all__ = ["DESCRIPTION_FILE", "Case", "Dataset", "Description", "find_dataset", "find_images", "read_description"]

LAYOUTS = (
    'a dataset.json with a "training" list (Medical Segmentation Decathlon), imagesTr/ and labelsTr/ (nnU-Net raw), '
    "images/ and labels/ with files of the same name, cases.csv, cases.json or cases.parquet, sub-*/ and derivatives/ "
    "(BIDS)"
)
A_TABLE = "table (.csv, .json, .parquet)"
TABLES = tuple(f"cases{suffix}" for suffix in TABLE_SUFFIXES)
LABELS_FILE = "labels.json"  # beside a table: names by value, or values by name
UNNAMED_OBJECTS = Labels(names=("background", "object"), values=(0, 1))  # instances whose label no table names
LISTED_ENTRIES = 8  # of what lies in a folder that is no dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Cases with what is known of their channels and labels.

    ``channels`` is empty and ``labels`` None while no metadata names them: ``check_dataset`` fills them in from the
    files. ``description`` is the ``nnlite.json`` in use, ``faults`` what was seen to be wrong without opening images,
    ``notes`` what its user should know. ``splits`` are folds that came with it. Channels on other grids are brought to
    that of the ``reference_channel``, where one is named.
    """

    name: str
    root: Path
    layout: str
    channels: tuple[str, ...]
    labels: Labels | None
    cases: tuple[Case, ...]
    faults: tuple[Fault, ...] = ()
    description: Path | None = None
    splits: Splits | None = None
    reference_channel: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, str]:
        """The group of each case that has one: scans of one patient, say, which are held out together."""
        return {case.id: case.group for case in self.cases if case.group is not None}

    @property
    def reference(self) -> int | None:
        """The place of the reference channel among the files of a case; None where there is none."""
        return None if self.reference_channel is None else channel_place(self.reference_channel, self.channels)

    @property
    def size(self) -> int:
        """Number of cases, those included that are too faulty to be listed in ``cases``."""
        return len({case.id for case in self.cases} | {fault.case for fault in self.faults if fault.case is not None})


def find_dataset(path: Path, description: Path | None = None) -> Dataset:
    """Recognise the dataset in a folder, or in a CSV or JSON list of cases.

    ``description`` is an ``nnlite.json`` that lies elsewhere (beside a read-only dataset, say); it is used if it
    exists and the dataset's folder has none. Raises ``DatasetError`` if this is no dataset at all.
    """
    root, found = _look(path)
    file = next((f for f in (root / DESCRIPTION_FILE, description) if f is not None and f.is_file()), None)
    described = read_description(file) if file else Description()
    labels, label_faults = _labels(root, found, file, described)
    faults = [*found.faults, *label_faults]
    known = {case.id for case in found.cases} | {fault.case for fault in faults}
    by_case = {"groups": described.groups, "sites": described.sites, "annotated": described.annotated}
    for key, names in {"exclude": described.exclude, **by_case}.items():
        for name in sorted({*names} - known):
            faults.append(Fault(case=None, what=f'"{key}" names {name!r}, which is no case', remedy=f"correct {file}"))
    cases = tuple(
        replace(
            case,
            group=described.groups.get(case.id, case.group),
            site=described.sites.get(case.id, case.site),
            annotated=described.annotated.get(case.id, case.annotated),
        )
        for case in found.cases
        if case.id not in described.exclude
    )
    reference = described.reference_channel
    if reference is not None:
        place = channel_place(reference, described.channels or found.channels)
        if lacking := [case.id for case in cases if 1 < len(case.images) <= place]:
            raise DatasetError(
                f"the reference channel {reference} is no channel of {lacking[0]}, which has fewer files"
            )
    faults = [fault for fault in faults if fault.case is None or fault.case not in described.exclude]
    if not cases and not faults:
        why = "all its cases are excluded" if described.exclude else f"no case was found in it; {SUPPORTED}"
        raise DatasetError(f"{path} is an empty dataset ({found.layout}): {why}")
    return Dataset(
        name=described.name or default_name(path),
        root=root,
        layout=found.layout,
        channels=described.channels or found.channels,
        labels=labels,
        cases=cases,
        faults=tuple(faults),
        description=file,
        splits=_splits(root, found, described.exclude),
        reference_channel=reference,
        notes=tuple(found.notes),
    )


def _labels(root: Path, found: Found, file: Path | None, described: Description) -> tuple[Labels | None, list[Fault]]:
    """The label table that the description ``file`` or the layout gives, and what is wrong with it."""
    if table := described.labels or found.label_table:
        try:
            paint = described.regions_class_order if described.labels else found.paint
            return with_instances(Labels.from_table(table, paint, described.mirrored), described.instances), []
        except DatasetError as error:
            by_user = described.labels or described.mirrored or described.instances
            source = file if by_user else root / found.label_file
            return None, [Fault(case=None, what=str(error), remedy=f"correct {source}")]
    if described.mirrored:
        what, remedy = '"mirrored" pairs labels, and there is no table of them', f'add "labels" to {file}'
        return None, [Fault(case=None, what=what, remedy=remedy)]
    if described.instances:
        return with_instances(UNNAMED_OBJECTS, described.instances), []
    return None, []


def with_instances(labels: Labels, kind: str | None) -> Labels:
    """The labels with instances that label maps tell apart as "components" or as "numbered"; as they are for None.

    ``DatasetError`` where there is more than one foreground label.
    """
    if kind is None:
        return labels
    try:
        return replace(labels, instances=Instances(numbered=kind == NUMBERED))
    except ValueError as error:
        raise DatasetError(str(error)) from error


def _splits(root: Path, found: Found, exclude: Sequence[str]) -> Splits | None:
    """Folds that a table names, or that lie beside the cases as nnU-Net writes them, without the excluded cases."""
    splits = found.splits
    if splits is None and (root / SPLITS_FILE).is_file():
        splits = replace(read_splits(root / SPLITS_FILE), rule="dataset")
    return splits.without(exclude) if splits is not None else None


def with_reference(dataset: Dataset, channel: str | None) -> Dataset:
    """The same dataset with this reference channel; as it is where none is named."""
    if channel is None:
        return dataset
    channel_place(channel, dataset.channels)
    return replace(dataset, reference_channel=channel)


def channel_place(name: str, channels: Sequence[str]) -> int:
    """Which of the channels is called so; ``DatasetError`` names those there are.

    Channels without names are called "channel 0", "channel 1", ..

    >>> channel_place("PET", ["CT", "PET"]), channel_place("channel 1", [])
    (1, 1)
    """
    if name in channels:
        return list(channels).index(name)
    number = name.removeprefix("channel ")
    if not channels and number.isdecimal() and number != name:
        return int(number)
    there = ", ".join(channels) or "channel 0, channel 1, .. (they have no names)"
    raise DatasetError(f"the reference channel {name} is no channel; there are {there}")


def default_name(path: Path) -> str:
    """What a dataset is called where no nnlite.json names it: its folder's name, or that of its list of cases.

    >>> default_name(Path("data/hippocampus"))
    'hippocampus'
    """
    if path.is_file() and path.name not in (*TABLES, "dataset.json"):
        return path.stem
    return (path.parent if path.is_file() else path).resolve().name


def find_images(inputs: Sequence[Path], channels: int) -> tuple[Case, ...]:
    """Cases to predict in files and folders, for a model of so many channels; labels are not looked for.

    A case is one file (that holds all channels), or ``CASE_0000.ext``, ``CASE_0001.ext``, .. with one channel each. A
    folder of DICOM slices is a file in this sense, and each such folder in a folder.
    Raises ``DatasetError`` with everything that is wrong.
    """
    files: list[Path] = []
    faults: list[Fault] = []
    for given in inputs:
        inside = _images_in(given)
        files.extend(inside)
        if not inside:
            what = f"{given} {'is or holds no image' if given.exists() else 'does not exist'}"
            faults.append(Fault(case=None, what=what, remedy=SUPPORTED))
    stems = [stem(file) for file in files]
    numbered = channels > 1 and any(name.endswith("_0000") for name in stems)
    by_case = group_channels(files, whole=[] if numbered else [s for s in stems if not s.endswith("_0000")])
    for name, parts in by_case.items():
        if twins := [file for same in parts.values() if len(same) > 1 for file in same]:
            what = f"several files for one id: {', '.join(map(str, twins))}"
            faults.append(Fault(case=name, what=what, remedy="their results would overwrite each other; predict one"))
        elif list(parts) not in ([0], list(range(channels))):
            what = f"has the channels {', '.join(f'{number:04d}' for number in parts)}, the model needs {channels}"
            faults.append(Fault(case=name, what=what, remedy="number the files of a case from _0000 up, without gaps"))
    if faults:
        raise DatasetError(in_words(faults, dataset="the input", cases=len(by_case)))
    return tuple(
        Case(id=name, images=tuple(files[0] for files in parts.values()), label=None) for name, parts in by_case.items()
    )


def _images_in(given: Path) -> list[Path]:
    """The images that an input stands for; DICOM folders without slices (a structure set, say) are no images."""
    if is_series(given) or (given.is_file() and image_suffix(given)):
        found = [given]
    elif given.is_dir():
        found = image_files(given) or sorted(path for path in given.rglob("*") if holds_dicom(path))
    else:
        found = []
    return [path for path in found if path.is_file() or holds_images(path)]


def _look(path: Path) -> tuple[Path, Found]:
    """The folder of the dataset and what is in it."""
    if not path.exists():
        raise DatasetError(f"{path} does not exist; give the folder of a dataset, or a {A_TABLE} of its cases")
    if path.is_file():
        if path.name == "dataset.json":
            path = path.parent
        elif path.suffix.lower() in TABLE_SUFFIXES:
            return path.parent, _table(path)
        else:
            raise DatasetError(f"{path} is a file; give the folder of a dataset, or a {A_TABLE} of its cases")
    try:
        found = _look_in_folder(path)
    except PermissionError as error:
        raise DatasetError(f"{error.filename} may not be read; check its permissions") from error
    if found is None:
        raise DatasetError(_no_layout(path))
    return path, found


def _look_in_folder(folder: Path) -> Found | None:
    for table in TABLES:
        if (folder / table).is_file():
            return _table(folder / table)
    metadata: Any = read_json(folder / "dataset.json") if (folder / "dataset.json").is_file() else {}
    if not isinstance(metadata, dict):
        raise DatasetError(f"{folder / 'dataset.json'} should hold one JSON object")
    if isinstance(metadata.get("training"), list) and metadata["training"]:
        return decathlon(folder, metadata)
    if isinstance(metadata.get("dataset"), dict) and metadata["dataset"]:
        return listed(folder, metadata)
    for images, labels, layout in (
        ("imagesTr", "labelsTr", "nnU-Net raw"),
        ("images", "labels", "images/ and labels/"),
    ):
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return pairs(folder / images, folder / labels, metadata, layout)
    return bids(folder) if is_bids(folder) else None


def _table(file: Path) -> Found:
    """A table of cases; its labels are named in a labels.json, or a dataset.json, beside it."""
    found = case_list(file)
    for name in (LABELS_FILE, "dataset.json"):
        if (beside := file.parent / name).is_file() and beside != file:
            content = read_json(beside)
            content = content if isinstance(content, dict) else {}
            named = label_table(content if isinstance(content.get("labels"), dict) else {"labels": content})
            if named["label_table"] and (name == LABELS_FILE or "labels" in content):
                found.label_table, found.paint, found.label_file = named["label_table"], named["paint"], name
                break
    return found


def _no_layout(folder: Path) -> str:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    if not entries:
        return f"{folder} is empty; a dataset is one of: {LAYOUTS}"
    more = f" and {len(entries) - LISTED_ENTRIES} more" if len(entries) > LISTED_ENTRIES else ""
    there = ", ".join(entries[:LISTED_ENTRIES]) + more
    inside = [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and _looks_like_dataset(sub)]
    hint = f"; did you mean {' or '.join(map(str, inside))}?" if inside else ""
    return f"{folder} is no dataset nnlite recognises; it looks for: {LAYOUTS}. Found there: {there}{hint}"


def _looks_like_dataset(folder: Path) -> bool:
    marks = (*TABLES, "labelsTr", "labels")
    return any((folder / mark).exists() for mark in marks)

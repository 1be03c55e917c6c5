"""Write a dataset in one of the layouts that nnlite reads: what lies where, and what is said of it.

What a format cannot say goes into an ``nnlite.json`` beside it, which other programs do not read; it is told. Formats:
nnU-Net v2 (github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md), Medical Segmentation Decathlon (Antonelli et
al., Nature Communications 13, 4128, 2022), BIDS 1.9 with segmentations as derivatives
(bids-specification.readthedocs.io).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nnlite.data.dataset import LABELS_FILE, Dataset
from nnlite.data.description import DESCRIPTION_FILE
from nnlite.data.instances import COMPONENTS
from nnlite.data.labels import Labels
from nnlite.data.layouts import Case
from nnlite.data.records import write_text
from nnlite.data.split import Splits, make_splits
from nnlite.data.splits_file import SPLITS_FILE
from nnlite.errors import UsageError
from nnlite.interop.bids_names import BidsNames, bids_names
from nnlite.interop.dataset_files import ImageFile, LabelFile, common_suffix, suffix_of

LayoutName = Literal["folder", "nnunet", "msd", "bids", "table"]
NNUNET_SUFFIXES = (".nii.gz", ".nrrd", ".mha", ".png", ".bmp", ".tif")  # that its readers share with nnlite
VOLUME, PICTURE = ".nii.gz", ".png"
NAMES = {"nnunet": "nnU-Net", "msd": "the Decathlon's format", "bids": "BIDS"}


@dataclass(slots=True, kw_only=True)
class Layout:
    """What is to be written: files made of others, texts by their path, and what is told of it."""

    images: list[ImageFile] = field(default_factory=list)
    labels: list[LabelFile] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write_texts(self, folder: Path) -> None:
        """Write all texts below a folder."""
        for name, text in self.texts.items():
            write_text(folder / name, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checked dataset, the folder that it is to be written to, and what its images are like.

    ``planar``: 2D pictures. ``present`` are the labels that each case has. ``link``: files are linked, not copied.
    """

    dataset: Dataset
    folder: Path
    planar: bool
    present: Mapping[str, tuple[str, ...]]
    link: bool

    @property
    def labels(self) -> Labels:
        """The label table, which a checked dataset has."""
        assert self.dataset.labels is not None, "a checked dataset has a label table"
        return self.dataset.labels

    @property
    def files_per_case(self) -> int:
        """Into how many files the channels of a case are divided: each has its own, or one has all."""
        return len(self.dataset.cases[0].images)


def lay_out(source: Source, to: LayoutName) -> Layout:
    """The dataset in another layout; ``UsageError`` where that cannot hold it."""
    if source.planar and to in ("msd", "bids"):
        raise UsageError(f"{NAMES[to]} holds volumes, and these are 2D images; choose --to folder, nnunet or table")
    writers: dict[LayoutName, Callable[[Source], Layout]] = {
        "folder": _folder,
        "nnunet": _nnunet,
        "msd": _msd,
        "bids": _bids,
        "table": _table,
    }
    return writers[to](source)


def _folder(source: Source) -> Layout:
    layout = Layout()
    _copies(source, layout)
    _describe(layout, source, {"channels": list(source.dataset.channels), **_table_of(source.labels)})
    _add_splits(layout, source.dataset.splits)
    return layout


def _table(source: Source) -> Layout:
    layout = Layout()
    if not source.link:
        _copies(source, layout)
    names = source.dataset.channels if source.files_per_case == len(source.dataset.channels) else ("image",)
    fold_of = _fold_of(source.dataset)
    rows = []
    for case in source.dataset.cases:
        files = {name: str(path.resolve()) for name, path in zip(names, case.images, strict=True)}
        label = str(case.label.resolve()) if case.label else ""
        if not source.link:
            files, label = (
                {name: f"images/{_image_name(case, number)}" for number, name in enumerate(names)},
                (f"labels/{case.id}{suffix_of(case.label)}" if case.label else ""),
            )
        more = {"group": case.group, "fold": fold_of.get(case.id), "site": case.site}
        rows.append({"case": case.id, **files, "label": label, **more, "annotated": ";".join(case.annotated or ())})
    filled = [column for column in rows[0] if any(row[column] for row in rows)]
    layout.texts["cases.csv"] = _csv(filled, rows, delimiter=",")
    layout.texts[LABELS_FILE] = _json(_table_of(source.labels))
    said = {"channels": list(source.dataset.channels)} if names == ("image",) else {}
    _describe(layout, source, said, without=("groups", "sites", "annotated"))
    if not fold_of:
        _add_splits(layout, source.dataset.splits)
    return layout


def _nnunet(source: Source) -> Layout:
    layout, dataset, labels = Layout(), source.dataset, source.labels
    files = [path for case in dataset.cases for path in (*case.images, *([case.label] if case.label else []))]
    suffix = common_suffix(files, NNUNET_SUFFIXES) or (PICTURE if source.planar else VOLUME)
    consecutive = labels.values == tuple(range(labels.count)) and labels.ignore in (None, labels.count)
    for case in dataset.cases:
        for number, file in enumerate(_one_file_per_channel(source, case)):
            layout.images.append(replace(file, target=Path("imagesTr") / f"{case.id}_{number:04d}{suffix}"))
        assert case.label is not None, "a checked dataset has labels"
        target = Path("labelsTr") / f"{case.id}{suffix}"
        layout.labels.append(LabelFile(source=case.label, target=target, as_indices=None if consecutive else labels))
    about = {
        "channel_names": {str(number): name for number, name in enumerate(dataset.channels)},
        **_table_of(labels, as_indices=True),
        "numTraining": len(dataset.cases),
        "file_ending": suffix,
    }
    layout.texts["dataset.json"] = _json(about)
    if not consecutive:
        pairs = zip(labels.values, range(labels.count), strict=True)
        changed = ", ".join(f"{value} to {index}" for value, index in pairs if value != index)
        layout.notes.append(f"label values are consecutive in nnU-Net: {changed or 'the ignored one comes last'}")
    splits = dataset.splits
    if splits is None and (dataset.groups or any(case.site for case in dataset.cases)):
        splits = make_splits([case.id for case in dataset.cases], groups=dataset.groups, labels=source.present)
        layout.notes.append(f"nnU-Net knows no groups or sites: {SPLITS_FILE} holds folds that keep groups whole")
    if splits is not None:
        layout.notes.append(f"nnU-Net looks for {SPLITS_FILE} in its folder of preprocessed data: copy it there")
    _add_splits(layout, splits)
    _describe(layout, source, {}, lost="nnunet", without=("reference_channel",))
    return layout


def _msd(source: Source) -> Layout:
    layout, dataset, labels = Layout(), source.dataset, source.labels
    for case in dataset.cases:
        image, label = Path("imagesTr") / f"{case.id}{VOLUME}", Path("labelsTr") / f"{case.id}{VOLUME}"
        layout.images.append(
            ImageFile(sources=case.images, target=image, reference=dataset.reference, fourth_axis=True)
        )
        assert case.label is not None, "a checked dataset has labels"
        layout.labels.append(LabelFile(source=case.label, target=label))
    ignored = {} if labels.ignore is None else {str(labels.ignore): "ignore"}
    about = {
        "name": dataset.name,
        "tensorImageSize": "4D" if len(dataset.channels) > 1 else "3D",
        "modality": {str(number): name for number, name in enumerate(dataset.channels)},
        "labels": {str(value): name for value, name in zip(labels.values, labels.names, strict=True)} | ignored,
        "numTraining": len(dataset.cases),
        "numTest": 0,
        "training": [
            {"image": f"./imagesTr/{case.id}{VOLUME}", "label": f"./labelsTr/{case.id}{VOLUME}"}
            for case in dataset.cases
        ],
        "test": [],
    }
    layout.texts["dataset.json"] = _json(about)
    _add_splits(layout, dataset.splits)
    _describe(layout, source, _table_of(labels) if labels.regions else {}, lost="msd", without=("reference_channel",))
    return layout


def _bids(source: Source) -> Layout:
    layout, dataset, labels = Layout(), source.dataset, source.labels
    names = bids_names(dataset)
    layout.notes.extend(names.notes)
    for case in dataset.cases:
        for file, channel in zip(_one_file_per_channel(source, case), names.channels, strict=True):
            layout.images.append(replace(file, target=names.image(case, channel)))
        assert case.label is not None, "a checked dataset has labels"
        layout.labels.append(LabelFile(source=case.label, target=names.label(case)))
    rows = [{"index": value, "name": name} for value, name in zip(labels.values, labels.names, strict=True)]
    rows += [] if labels.ignore is None else [{"index": labels.ignore, "name": "ignore"}]
    layout.texts[f"{names.derivative}/dseg.tsv"] = _csv(["index", "name"], rows, delimiter="\t")
    layout.texts |= names.descriptions(dataset.name)
    layout.texts["participants.tsv"] = _participants(dataset, names)
    layout.texts[".bidsignore"] = f"{DESCRIPTION_FILE}\n{SPLITS_FILE}\n"
    _add_splits(layout, dataset.splits, names.ids)
    renamed = replace(dataset, cases=tuple(replace(case, id=names.ids[case.id]) for case in dataset.cases))
    said = _table_of(labels) if labels.regions else {}
    _describe(layout, replace(source, dataset=renamed), said, lost="bids", without=("groups", "sites"))
    return layout


def label_table(labels: Labels, *, as_indices: bool = False) -> tuple[dict[str, Any], list[int]]:
    """A table of labels as ``Labels.from_table`` takes it, and in which order regions are painted.

    >>> label_table(Labels.from_table({"tumour": [2, 5], "core": 5}), as_indices=True)
    ({'background': 0, 'tumour': [1, 2], 'core': 2}, [1, 2])
    """

    def number(value: int) -> int:
        return labels.values.index(value) if as_indices else value

    ignore = labels.ignore_index if as_indices else labels.ignore
    table: dict[str, Any] = {labels.names[0]: 0}
    for region in labels.regions:
        values = [number(value) for value in region.values]
        table[region.name] = values if len(values) > 1 else values[0]
    if not labels.regions:
        table = {name: number(value) for name, value in zip(labels.names, labels.values, strict=True)}
    table |= {} if ignore is None else {"ignore": ignore}
    return table, [number(region.painted) for region in labels.regions]


def _copies(source: Source, layout: Layout) -> None:
    """Images and labels in two folders, each as it is."""
    for case in source.dataset.cases:
        for number, path in enumerate(case.images):
            target = Path("images") / _image_name(case, number)
            layout.images.append(ImageFile(sources=(path,), target=target))
        assert case.label is not None, "a checked dataset has labels"
        target = Path("labels") / f"{case.id}{suffix_of(case.label)}"
        layout.labels.append(LabelFile(source=case.label, target=target))


def _image_name(case: Case, number: int) -> str:
    channel = f"_{number:04d}" if len(case.images) > 1 else ""
    return f"{case.id}{channel}{suffix_of(case.images[number])}"


def _one_file_per_channel(source: Source, case: Case) -> Iterable[ImageFile]:
    """The channels of a case in a file each; a picture keeps its colours. Their targets are still to be named."""
    reference = source.dataset.reference
    if reference is None and (len(case.images) > 1 or source.planar or len(source.dataset.channels) == 1):
        return [ImageFile(sources=(path,), target=path) for path in case.images]
    return [
        ImageFile(sources=case.images, target=case.images[0], channel=channel, reference=reference)
        for channel in range(len(source.dataset.channels))
    ]


def _table_of(labels: Labels, *, as_indices: bool = False) -> dict[str, Any]:
    """The table of labels, and where it has regions, their order, under the keys of all the JSON files."""
    table, paint = label_table(labels, as_indices=as_indices)
    return {"labels": table} | ({"regions_class_order": paint} if paint else {})


def _describe(
    layout: Layout, source: Source, said: Mapping[str, Any], *, lost: str = "", without: Iterable[str] = ()
) -> None:
    """Add an nnlite.json with what is ``said`` and what the cases have; what only nnlite can read is told of."""
    dataset, labels = source.dataset, source.labels
    cases = {case.id: case for case in dataset.cases}
    parts: dict[str, Any] = {
        **said,
        "instances": None if labels.instances is None else COMPONENTS,  # a checked source has none with numbers
        "mirrored": [list(pair) for pair in labels.mirrored] if _mirrored_by_hand(labels) else None,
        "groups": dataset.groups,
        "sites": {name: case.site for name, case in cases.items() if case.site},
        "annotated": {name: list(case.annotated) for name, case in cases.items() if case.annotated is not None},
        "reference_channel": dataset.reference_channel,
    }
    kept = {key: part for key, part in parts.items() if key not in without and (part or part == [])}
    if kept:
        layout.texts[DESCRIPTION_FILE] = _json(kept)
    words = {
        "labels": "regions",
        "instances": "single objects",
        "mirrored": "pairs of left and right",
        "annotated": "labels annotated case by case",
    }
    if lost and (unknown := [words.get(key, key) for key in kept if key != "regions_class_order"]):
        told = ", ".join(unknown)
        layout.notes.append(f"{NAMES[lost]} cannot say: {told}; {DESCRIPTION_FILE} keeps it, which only nnlite reads")


def _mirrored_by_hand(labels: Labels) -> bool:
    """Whether pairs of left and right are others than their names tell."""
    table, paint = label_table(labels)
    return Labels.from_table(table, paint).mirrored != labels.mirrored


def _fold_of(dataset: Dataset) -> dict[str, str]:
    """The fold that holds each case out; empty where one column cannot tell which fold trains on what."""
    if dataset.splits is None:
        return {}
    ids = {case.id for case in dataset.cases}
    held = [case for fold in dataset.splits.folds for case in fold.validation]
    simple = all({*fold.train} == ids - {*fold.validation} for fold in dataset.splits.folds)
    if not simple or len(set(held)) < len(held):
        return {}
    return {case: str(number) for number, fold in enumerate(dataset.splits.folds) for case in fold.validation}


def _add_splits(layout: Layout, splits: Splits | None, ids: Mapping[str, str] | None = None) -> None:
    """Add a splits_final.json; ``ids`` are the cases' new names where they have some."""
    if splits is None:
        return

    def named(cases: Iterable[str]) -> list[str]:
        return [case if ids is None else ids[case] for case in cases]

    folds = [{"train": named(fold.train), "val": named(fold.validation)} for fold in splits.folds]
    layout.texts[SPLITS_FILE] = _json(folds)


def _participants(dataset: Dataset, names: BidsNames) -> str:
    subjects = {names.subject(case): case.site or "n/a" for case in dataset.cases}
    rows = [{"participant_id": subject, "site": site} for subject, site in subjects.items()]
    columns = ["participant_id", *(["site"] if any(case.site for case in dataset.cases) else [])]
    return _csv(columns, rows, delimiter="\t")


def _csv(columns: list[str], rows: Iterable[Mapping[str, Any]], *, delimiter: str) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

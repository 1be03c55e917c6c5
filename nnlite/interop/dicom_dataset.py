"""A tree of DICOM files as cases: image series, and the structure sets and segmentations that were drawn on them.

A source of ``nnlite convert``. What belongs together is told by the files themselves: a structure set or segmentation
names the series it was made on, and folders and file names mean nothing.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnlite.data.dicom.headers import SEGMENTATION, STRUCTURE_SET, is_dicom, is_image, read_header
from nnlite.data.dicom.series import Series, grouped
from nnlite.data.dicom.stack import Stack, stack
from nnlite.data.dicom.voxels import read_voxels
from nnlite.data.faults import LISTED_CASES
from nnlite.data.image import read_by_gdcm
from nnlite.data.labels import Labels
from nnlite.data.layouts import ILLEGAL_IN_ID
from nnlite.errors import DatasetError, ImageError, UsageError
from nnlite.interop.dicom_seg import read_segments, segment_names, segmented_series
from nnlite.interop.rtstruct import read_structures, referenced_series, structure_names

if TYPE_CHECKING:
    import pydicom

LISTED_NAMES = 20  # structures shown of many

Read = Callable[[Path, Stack, Iterable[str]], dict[str, np.ndarray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A structure set or segmentation: what it names, which series it was drawn on, and how it is read."""

    path: Path
    names: tuple[str, ...]
    series: tuple[str, ...]
    read: Read


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomCase:
    """A series with all that was drawn on it; cases of one ``patient`` belong together; "" is not stated."""

    id: str
    patient: str
    series: Series
    truths: tuple[Truth, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomDataset:
    """The cases in a tree of DICOM files, and which structures become which label.

    ``structures`` is the label of each structure by its name in lower case. ``faults`` are files that cannot be read,
    ``notes`` tell of those that belong to no series, and of series without a patient.
    """

    channel: str
    cases: tuple[DicomCase, ...]
    labels: Labels
    structures: Mapping[str, str]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def find_cases(folder: Path, structures: Sequence[str] = ()) -> DicomDataset:
    """Look at the headers of all DICOM files below a folder.

    ``structures`` are names, patterns with * and ?, or LABEL=PATTERN, in the order of their label values; none takes
    every structure under its own name. Raises ``DatasetError`` where there is no case at all.
    """
    faults: list[str] = []
    notes: list[str] = []
    truths: list[Truth] = []
    series = {one.uid: one for one in grouped(folder, _images(folder, truths, faults))}
    drawn: dict[str, list[Truth]] = {}
    for truth in truths:
        known = [uid for uid in truth.series if uid in series]
        if known:
            drawn.setdefault(max(known, key=lambda uid: len(series[uid].frames)), []).append(truth)
        else:
            on = ", ".join(truth.series) or "it does not name"
            notes.append(f"{truth.path} is left out: the series {on} is not in {folder}; add that series")
    if not drawn:
        found = f"{len(series)} image series and {len(truths)} segmentations or structure sets"
        told = "".join(f"\n- {what}" for what in (*faults, *notes))
        raise DatasetError(f"{folder}: found {found}, but none that belong together; give the folder of both{told}")
    modalities = Counter(series[uid].modality for uid in drawn)
    if len(modalities) > 1:
        counted = ", ".join(f"{number} {name}" for name, number in modalities.most_common())
        raise DatasetError(f"{folder}: mixes modalities ({counted} series); convert each from a folder of its own")
    cases = tuple(_cases([(series[uid], tuple(found)) for uid, found in drawn.items()]))
    notes.extend(_strangers(cases))
    names = tuple(dict.fromkeys(name for case in cases for truth in case.truths for name in truth.names))
    table = _label_of_each(names, structures)
    order = [_label_and_pattern(text)[0] for text in structures] or [table[name.lower()] for name in names]
    labels = Labels.from_table({name: value for value, name in enumerate(dict.fromkeys(order), start=1)})
    return DicomDataset(
        channel=next(iter(modalities)),
        cases=cases,
        labels=labels,
        structures=table,
        faults=tuple(faults),
        notes=tuple(notes),
    )


def read_image(case: DicomCase) -> tuple[np.ndarray, Stack]:
    """The voxels (slices, rows, columns) of a case in physical values, and where its slices lie."""
    slices = stack(case.series)
    return read_voxels(slices, read_by_gdcm), slices


def read_label(case: DicomCase, dataset: DicomDataset, slices: Stack) -> tuple[np.ndarray, tuple[str, ...]]:
    """The label map (slices, rows, columns) of a case, and in words what was painted over or is not there.

    Where structures overlap, the label with the higher value wins.
    """
    masks: dict[str, np.ndarray] = {}
    for truth in case.truths:
        wanted = [name for name in truth.names if name.lower() in dataset.structures]
        for name, mask in truth.read(truth.path, slices, wanted).items():
            label = dataset.structures[name.lower()]
            masks[label] = masks[label] | mask if label in masks else mask
    if not masks:
        there = ", ".join([name for truth in case.truths for name in truth.names][:LISTED_NAMES])
        raise ImageError(f"{case.truths[0].path}: has none of the structures asked for, but {there}; name one of these")
    painted = np.zeros(slices.geometry.shape, dtype=np.min_scalar_type(max(dataset.labels.values)))
    notes = []
    for value, name in zip(dataset.labels.values[1:], dataset.labels.foreground, strict=True):
        if name not in masks:
            notes.append(f"has no {name}; its voxels count as background")
            continue
        if covered := int(np.count_nonzero(painted[masks[name]])):
            notes.append(f"{name} covers {covered} voxels of other labels")
        painted[masks[name]] = value
    return painted, tuple(notes)


def _images(folder: Path, truths: list[Truth], faults: list[str]) -> Iterator[tuple[Path, pydicom.Dataset]]:
    """Headers of the images below a folder; what is a truth or cannot be read goes into its list."""
    for path in sorted(folder.rglob("*")):
        if not is_dicom(path):
            continue
        try:
            header = read_header(path)
        except ImageError as error:
            faults.append(str(error))
            continue
        kind = header.get("SOPClassUID")
        if kind == STRUCTURE_SET:
            names, series = structure_names(header), referenced_series(header)
            truths.append(Truth(path=path, names=names, series=series, read=read_structures))
        elif kind in SEGMENTATION:
            names, series = segment_names(header), segmented_series(header)
            truths.append(Truth(path=path, names=names, series=series, read=read_segments))
        elif is_image(header):
            yield path, header


def _cases(found: Sequence[tuple[Series, tuple[Truth, ...]]]) -> Iterator[DicomCase]:
    """A case per series, called like the patient, and numbered where several would be called so."""
    names = [re.sub(r"[^\w.-]+", "_", series.patient).strip("._") for series, _ in found]
    names = [name if name and not ILLEGAL_IN_ID.search(name) else "patient" for name in names]
    times = Counter(names)
    used = {name for name in names if times[name] == 1}
    for name, (series, truths) in zip(names, found, strict=True):
        numbered = (f"{name}_{number}" for number in count(1))
        unused = name if times[name] == 1 else next(one for one in numbered if one not in used)
        used.add(unused)
        yield DicomCase(id=unused, patient=series.patient.strip(), series=series, truths=truths)


def _strangers(cases: Sequence[DicomCase]) -> Iterator[str]:
    """What is told of series that do not say of whom they are: they need not be of one patient."""
    unknown = [case.id for case in cases if not case.patient]
    if unknown and len(cases) > 1:
        some = ", ".join(unknown[:LISTED_CASES]) + ", .." * (len(unknown) > LISTED_CASES)
        yield (
            f"{len(unknown)} of {len(cases)} series state no patient ({some}) and count as one each; "
            'if some are of the same, write them under "groups" in the nnlite.json of the new dataset'
        )


def _label_of_each(names: Sequence[str], structures: Sequence[str]) -> dict[str, str]:
    """The label of every structure, by its name in lower case; spellings that differ in case are one structure."""
    if not structures:
        first: dict[str, str] = {}
        for name in names:
            first.setdefault(name.lower(), name)
        return first
    table: dict[str, str] = {}
    for text in structures:
        label, pattern = _label_and_pattern(text)
        found = [name for name in names if fnmatch.fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))]
        if not found:
            there = ", ".join(names[:LISTED_NAMES]) + (", .." if len(names) > LISTED_NAMES else "")
            raise UsageError(f'no structure is called "{pattern}"; there are: {there}')
        for name in found:
            table.setdefault(name.lower(), label)
    return table


def _label_and_pattern(text: str) -> tuple[str, str]:
    label, equals, pattern = text.partition("=")
    return (label.strip(), pattern.strip()) if equals else (text.strip(), text.strip())

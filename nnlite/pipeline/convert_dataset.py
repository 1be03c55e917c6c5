"""Turn a dataset into another layout, or a tree of DICOM files with structure sets or segmentations into a dataset.

DICOM (``interop/dicom_dataset.py``) becomes NIfTI rather than being read at every training step of the way: that is
several times faster, shows in every viewer what the truth became, and what was decided about names and overlaps is
decided once. Datasets (``interop/dataset_layouts.py``) keep their files, except where the layout demands others.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nnlite.data.check import CheckReport, check_dataset
from nnlite.data.dataset import DESCRIPTION_FILE, Dataset, find_dataset
from nnlite.data.dicom.headers import is_dicom
from nnlite.data.image import read_label as read_label_map
from nnlite.data.image import write_image
from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.data.records import UMASK, WRITING, write_text
from nnlite.errors import DatasetError, ImageError, UsageError
from nnlite.interop.dataset_files import make_image, make_label
from nnlite.interop.dataset_layouts import LayoutName, Source, lay_out
from nnlite.interop.dicom_dataset import DicomCase, DicomDataset, find_cases, read_image, read_label
from nnlite.pipeline.machine import workers_for_files

SUFFIX = ".nii.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertResult:
    """The dataset that was written, its cases, channels and labels, and what its user should know."""

    folder: Path
    cases: tuple[str, ...]
    channel: str
    labels: Labels
    notes: tuple[str, ...]


def convert(
    source: Path,
    output: Path,
    *,
    to: LayoutName = "folder",
    structures: Sequence[str] = (),
    link: bool = False,
    progress: Progress = silent,
) -> ConvertResult:
    """Write a dataset in the layout ``to`` to the new folder ``output``; its source may be a folder of DICOM files.

    ``link`` links files instead of copying them where they can stay as they are. ``structures`` chooses and renames
    what becomes a label of a DICOM file, see ``find_cases``. A dataset with faults is a ``DatasetError`` and nothing is
    written; of DICOM files, cases that cannot be converted are told of at the end, when all others are written.
    """
    if not source.exists():
        raise UsageError(f"{source} does not exist; give a dataset, or a folder of DICOM files")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} is there already; give a new folder with -o")
    found = None if structures else _dataset(source)
    if found is not None:
        return _rearranged(found, output, to, link=link, progress=progress)
    if not source.is_dir():
        raise UsageError(f"{source} is a file; give a folder of DICOM files")
    if link:
        raise UsageError("--link is for datasets; DICOM files are not kept as they are")
    with _begun(output) as beside:
        result, faults = _from_dicom(source, beside / "dicom", structures, progress)
        if result.cases and to == "folder":
            _place(result.folder, output)
        elif result.cases:
            again = _rearranged(find_dataset(result.folder), output, to, link=True, progress=progress)
            result = replace(again, notes=(*result.notes, *again.notes))
    if faults:
        there = f"the other cases ({len(result.cases)}) are in {output}" if result.cases else "nothing was written"
        headline = f"{source}: not all could be converted, {there}:"
        raise DatasetError("\n- ".join([headline, *faults]))
    return replace(result, folder=output)


def _dataset(source: Path) -> Dataset | None:
    """The dataset at a path; None where there is none, but DICOM files."""
    try:
        return find_dataset(source)
    except DatasetError:
        if source.is_dir() and any(is_dicom(path) for path in source.rglob("*")):
            return None
        raise


def _rearranged(dataset: Dataset, output: Path, to: LayoutName, *, link: bool, progress: Progress) -> ConvertResult:
    """Check a dataset, then write it in another layout; it appears whole."""
    report: CheckReport[None] = check_dataset(
        dataset, workers=workers_for_files(case.images for case in dataset.cases), progress=progress
    )
    report.raise_if_faulty()
    checked = report.dataset
    if checked.labels is not None and checked.labels.numbered:
        raise UsageError(
            f"the label maps of {dataset.root} number single objects, which other layouts would take for labels; train "
            "from them as they are, or write one value per label first"
        )
    first = checked.cases[0].label
    assert first is not None, "a checked dataset has labels"
    planar = read_label_map(first).planar
    layout = lay_out(
        Source(dataset=checked, folder=output, planar=planar, present=report.foreground_labels(), link=link), to
    )
    with _begun(output) as beside:
        done, total = 0, len(layout.images) + len(layout.labels)
        for image in layout.images:
            make_image(replace(image, target=beside / image.target), link=link)
            progress("convert", done := done + 1, total)
        for label in layout.labels:
            make_label(replace(label, target=beside / label.target), link=link)
            progress("convert", done := done + 1, total)
        layout.write_texts(beside)
        _place(beside, output)
    written = find_dataset(output)
    return ConvertResult(
        folder=output,
        cases=tuple(case.id for case in written.cases),
        channel=", ".join(written.channels or checked.channels),
        labels=written.labels or report.dataset.labels or Labels(names=("background",), values=(0,)),
        notes=(*report.notes, *layout.notes),
    )


@contextmanager
def _begun(output: Path) -> Iterator[Path]:
    """A folder to write to on the disk of ``output``, beside it or, where it is there already, in it.

    It is removed at the end, whatever happens.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=WRITING, dir=output if output.is_dir() else output.parent))
    beside.chmod(0o777 & ~UMASK)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _place(made: Path, output: Path) -> None:
    """Give a finished folder its name; one that was there, a mounted disk or a link among them, takes what is in it."""
    if not output.is_dir():
        made.replace(output)
        return
    for part in sorted(made.iterdir(), key=lambda part: part.is_file()):  # descriptions last
        part.replace(output / part.name)


def _from_dicom(
    source: Path, output: Path, structures: Sequence[str], progress: Progress
) -> tuple[ConvertResult, tuple[str, ...]]:
    """Write the cases of a folder of DICOM files as images/ and labels/ with an nnlite.json; and what could not be."""
    found = find_cases(source, structures)
    faults = list(found.faults)
    notes = list(found.notes)
    done: list[DicomCase] = []
    for number, case in enumerate(found.cases, start=1):
        try:
            notes.extend(f"{case.id}: {note}" for note in _write(case, found, output))
            done.append(case)
        except ImageError as error:
            faults.append(f"{case.id}: {error}")
        progress("convert", number, len(found.cases))
    if done:
        _describe(done, found, output)
    made = ConvertResult(
        folder=output,
        cases=tuple(case.id for case in done),
        channel=found.channel,
        labels=found.labels,
        notes=tuple(notes),
    )
    return made, tuple(faults)


def _write(case: DicomCase, dataset: DicomDataset, output: Path) -> tuple[str, ...]:
    """Write one case, unless one half of it cannot be read; what is told of it."""
    voxels, slices = read_image(case)
    label, notes = read_label(case, dataset, slices)
    write_image(output / "images" / f"{case.id}{SUFFIX}", voxels[None], slices.geometry)
    write_image(output / "labels" / f"{case.id}{SUFFIX}", label[None], slices.geometry)
    return notes


def _describe(cases: Sequence[DicomCase], dataset: DicomDataset, output: Path) -> None:
    """Write the ``nnlite.json``: channel and labels, and which cases are of one patient, where it is known."""
    patients = [case.patient for case in cases]
    description = {
        "channels": [dataset.channel],
        "labels": dict(zip(dataset.labels.names, dataset.labels.values, strict=True)),
        "groups": {case.id: case.patient for case in cases if case.patient and patients.count(case.patient) > 1},
    }
    text = json.dumps({key: value for key, value in description.items() if value}, indent=2, ensure_ascii=False)
    write_text(output / DESCRIPTION_FILE, text + "\n")

"""Turn a dataset of another kind into one that nnlite reads: images and label maps as NIfTI, with an ``nnlite.json``.

Its source is a tree of DICOM files with structure sets or segmentations (``interop/dicom_dataset.py``). NIfTI rather
than reading DICOM at every training step of the way: it is read several times faster, shows in every viewer what the
truth became, and what was decided about names and overlaps is decided once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnlite.data.dataset import DESCRIPTION_FILE
from nnlite.data.image import write_image
from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.data.records import write_text
from nnlite.errors import DatasetError, ImageError, UsageError
from nnlite.interop.dicom_dataset import DicomCase, DicomDataset, find_cases, read_image, read_label

SUFFIX = ".nii.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertResult:
    """The dataset that was written, its cases, channel and labels, and what its user should know of single cases."""

    folder: Path
    cases: tuple[str, ...]
    channel: str
    labels: Labels
    notes: tuple[str, ...]


def convert(
    source: Path, output: Path, *, structures: Sequence[str] = (), progress: Progress = silent
) -> ConvertResult:
    """Write the cases of a folder of DICOM files as a dataset to the new folder ``output``.

    ``structures`` chooses and renames what becomes a label, see ``find_cases``. Cases that cannot be converted are told
    of at the end, in one ``DatasetError``, when all others are written.
    """
    if not source.is_dir():
        raise UsageError(
            f"{source} {'is a file' if source.exists() else 'does not exist'}; give a folder of DICOM files"
        )
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} is there already; give a new folder with -o")
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
    if faults:
        headline = f"{source}: not all could be converted, {len(done)} of {len(found.cases)} cases are in {output}:"
        raise DatasetError("\n- ".join([headline, *faults]))
    return ConvertResult(
        folder=output,
        cases=tuple(case.id for case in done),
        channel=found.channel,
        labels=found.labels,
        notes=tuple(notes),
    )


def _write(case: DicomCase, dataset: DicomDataset, output: Path) -> tuple[str, ...]:
    """Write one case, unless one half of it cannot be read; what is told of it."""
    voxels, slices = read_image(case)
    label, notes = read_label(case, dataset, slices)
    write_image(output / "images" / f"{case.id}{SUFFIX}", voxels[None], slices.geometry)
    write_image(output / "labels" / f"{case.id}{SUFFIX}", label[None], slices.geometry)
    return notes


def _describe(cases: Sequence[DicomCase], dataset: DicomDataset, output: Path) -> None:
    """Write the ``nnlite.json``: channel and labels, and which cases are of one patient."""
    patients = [case.patient for case in cases]
    description = {
        "channels": [dataset.channel],
        "labels": dict(zip(dataset.labels.names, dataset.labels.values, strict=True)),
        "groups": {case.id: case.patient for case in cases if patients.count(case.patient) > 1},
    }
    text = json.dumps({key: value for key, value in description.items() if value}, indent=2, ensure_ascii=False)
    write_text(output / DESCRIPTION_FILE, text + "\n")

"""Which masks are compared, and what their values mean, when two folders of masks are scored."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlite.data.dataset import UNNAMED_OBJECTS, with_instances
from nnlite.data.description import DESCRIPTION_FILE, is_texts_by_text, read_description
from nnlite.data.image import IMAGE_SUFFIXES, Image, image_suffix
from nnlite.data.instances import INSTANCES
from nnlite.data.labels import LARGEST_VALUE, Labels, values_in
from nnlite.data.layouts import read_json
from nnlite.errors import DatasetError

log = logging.getLogger(__name__)

LABEL_TABLES = (DESCRIPTION_FILE, "dataset.json")  # what the user adds comes before what the dataset brought along
BESIDE_MASKS = (
    ".preview.png",
    ".probabilities.nii",
    ".entropy.nii",
)  # what predict writes, too
MOST_LABELS = 1000  # more than any label table has; to count the values of a CT image so would take gigabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPair:
    """Two files that hold the same case."""

    case_id: str
    truth: Path
    prediction: Path


def pair_masks(truth: Path, prediction: Path) -> tuple[list[MaskPair], list[str]]:
    """Masks of the same case, and the cases without a prediction, both ordered by case id."""
    truths, predictions = _masks(truth), _masks(prediction)
    if truth.is_file() and prediction.is_file():  # the user has paired these two, whatever their names
        predictions = dict.fromkeys(truths, prediction)
    for case_id in sorted(predictions.keys() - truths.keys()):
        log.warning("%s is not scored: no truth of that name in %s", predictions[case_id], truth)
    pairs = [
        MaskPair(case_id=case_id, truth=path, prediction=predictions[case_id])
        for case_id, path in truths.items()
        if case_id in predictions
    ]
    return pairs, [case_id for case_id in truths if case_id not in predictions]


def _masks(path: Path) -> dict[str, Path]:
    """Image files by case id, in order: those of a folder, or the one that ``path`` itself is."""
    if not path.exists():
        raise DatasetError(f"{path} does not exist; give a mask or a folder of masks")
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if not file.name.startswith("."))
    masks: dict[str, Path] = {}
    doubles: list[str] = []
    for file in files:
        suffix = image_suffix(file)
        if suffix is None or file.name.endswith((*BESIDE_MASKS, f"{INSTANCES}{suffix}")):
            continue
        case_id = file.name[: -len(suffix)]
        if case_id in masks:
            doubles.append(f"{masks[case_id].name} and {file.name}")
        masks[case_id] = file
    if doubles:
        raise DatasetError(f"{path} holds two masks of one name: {', '.join(doubles)}; keep one of each")
    if not masks:
        raise DatasetError(f"no masks in {path}; known suffixes are {', '.join(IMAGE_SUFFIXES)}")
    return dict(sorted(masks.items()))


def labels_in(image: Image, path: Path) -> Labels:
    """A label table made of the values that a mask holds."""
    values = values_in(image.array)
    if len(values) > MOST_LABELS or values[0] < 0 or values[-1] > LARGEST_VALUE:
        raise DatasetError(
            f"{path} holds {len(values)} different values from {values[0]} to {values[-1]}, which no label mask does; "
            "is it an image?"
        )
    return labels_of_values(values)


def labels_of_values(values: Iterable[int]) -> Labels:
    """A label table for values without names: background for 0, and a plain name for each other.

    >>> labels_of_values([255, 0]).names
    ('background', 'label 255')
    """
    foreground = sorted(set(values) - {0})
    return Labels(names=("background", *(f"label {value}" for value in foreground)), values=(0, *foreground))


def find_labels(truth: Path) -> Labels | None:
    """The label table in or beside the truth folder, if there is one, with the instances that an nnlite.json tells of.

    The two may stand in different files, and come together as where a dataset is planned (``find_dataset``).
    """
    descriptions = map(read_description, _files_beside(truth, DESCRIPTION_FILE))
    instances = next((one.instances for one in descriptions if one.instances), None)
    for path in _files_beside(truth, *LABEL_TABLES):
        if table := _read_table(path):
            try:
                return with_instances(Labels.from_table(*table), instances)
            except DatasetError as problem:
                raise DatasetError(f"{path}: {problem}") from problem
    return with_instances(UNNAMED_OBJECTS, instances) if instances else None


def find_annotated(truth: Path) -> dict[str, tuple[str, ...]]:
    """Which labels are annotated in which case, where that is told in or beside the truth folder."""
    for path in _files_beside(truth, *LABEL_TABLES):
        found = _read(path).get("annotated")
        if is_texts_by_text(found):
            return {case: tuple(names) for case, names in found.items()}
    return {}


def _files_beside(truth: Path, *names: str) -> list[Path]:
    """The files of these names in or beside the truth folder, those of the first name first."""
    folder = truth if truth.is_dir() else truth.parent
    places = [place / name for name in names for place in (folder, folder.resolve().parent)]
    return [path for path in places if path.is_file()]


def _read_table(path: Path) -> tuple[Mapping[str, Any], Sequence[int]] | None:
    """What a JSON file says of labels, and in which order regions are painted."""
    content = _read(path)
    table = content.get("labels")
    return (table, content.get("regions_class_order", ())) if isinstance(table, dict) and table else None


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where it holds something else."""
    content = read_json(path)
    return content if isinstance(content, dict) else {}

"""Score folders of predicted masks against the truth: per case and label, and summed up over the cases.

Masks are compared voxel by voxel, so both must lie on the same grid: nothing is resampled behind the user's back.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlite.data.image import Geometry, read_label
from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record, record, write_record, written_whole
from nnlite.errors import DatasetError, ImageError, WorkspaceError
from nnlite.evaluation.case_scores import TOLERANCE_MM, LabelScore, score_case
from nnlite.evaluation.masks import MaskPair, find_labels, labels_in, labels_of_values, pair_masks

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Average",
    "LabelScore",
    "LabelSummary",
    "Scores",
    "Summary",
    "evaluate_folders",
    "read_scores",
    "score_case",
]

log = logging.getLogger(__name__)

VOLUMES = ("truth_ml", "prediction_ml", "volume_error_ml")  # a mean over labels of such different size says nothing


@record
class Average:
    """Over the ``cases`` in which the number is defined; None where it is defined in none."""

    mean: float | None
    median: float | None
    cases: int


@record
class LabelSummary:
    """One label over all cases; ``cases`` counts those that contain it in truth or prediction."""

    cases: int
    dice: Average
    iou: Average
    sensitivity: Average
    specificity: Average
    precision: Average
    truth_ml: Average
    prediction_ml: Average
    volume_error_ml: Average
    hd_mm: Average
    hd95_mm: Average
    asd_mm: Average
    nsd: Average
    centre_distance_mm: Average
    lesion_f1: Average
    lesion_sensitivity: Average
    lesion_dice: Average


MEASURES = tuple(field.name for field in fields(LabelSummary) if field.name != "cases")


@record
class Summary:
    """All foreground labels over all cases. ``foreground`` holds the mean over labels of each label's mean.

    ``tolerance_mm`` is the one that ``nsd`` was computed with.
    """

    cases: int
    tolerance_mm: float
    foreground: dict[str, float | None]
    labels: dict[str, LabelSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One row per case and foreground label, ordered by case, then as in the label table."""

    rows: tuple[LabelScore, ...]
    tolerance_mm: float = TOLERANCE_MM

    @property
    def cases(self) -> tuple[str, ...]:
        """The scored cases in order."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    @property
    def labels(self) -> tuple[str, ...]:
        """The scored foreground labels in order."""
        return tuple(dict.fromkeys(row.label for row in self.rows))

    @property
    def mean_dice(self) -> float:
        """Mean over labels of the mean Dice over cases; cases where truth and prediction lack the label do not count.

        A label found in no case does not count either; NaN when that leaves none.
        """
        mean = self.summary().foreground["dice"]
        return float("nan") if mean is None else mean

    def summary(self) -> Summary:
        """Mean and median per label, and the mean over labels."""
        labels = {label: _summarised([row for row in self.rows if row.label == label]) for label in self.labels}
        foreground = {
            name: _average(getattr(summary, name).mean for summary in labels.values()).mean
            for name in MEASURES
            if name not in VOLUMES
        }
        return Summary(cases=len(self.cases), tolerance_mm=self.tolerance_mm, foreground=foreground, labels=labels)

    def remarks(self) -> tuple[str, ...]:
        """What means hide, in words: labels that no case holds, that were never predicted, or only where they are not.

        >>> Scores(rows=()).remarks()
        ()
        """
        return tuple(filter(None, (_remark(label, self._cases_with(label)) for label in self.labels)))

    def _cases_with(self, label: str) -> tuple[int, int]:
        """In how many cases the truth and the prediction hold a label."""
        rows = [row for row in self.rows if row.label == label]
        return sum(row.truth_voxels > 0 for row in rows), sum(row.prediction_voxels > 0 for row in rows)

    def to_frame(self) -> pd.DataFrame:
        """The rows as a table with one column per field of ``LabelScore``."""
        import pandas as pd

        columns = [field.name for field in fields(LabelScore)]
        return pd.DataFrame([asdict(row) for row in self.rows], columns=columns)

    def write(self, csv_path: Path, json_path: Path) -> None:
        """Write the rows as CSV (undefined numbers stay empty) and the summary as JSON; both files appear whole."""
        with written_whole(csv_path) as beside:
            self.to_frame().to_csv(beside, index=False, float_format="%.6g")
        write_record(json_path, self.summary())


def read_scores(csv_path: Path, json_path: Path) -> Scores:
    """Read what ``Scores.write`` wrote; ``WorkspaceError`` where the files are not what they should be."""
    summary = read_record(json_path, Summary)
    try:
        with csv_path.open(encoding="utf-8", newline="") as file:
            rows = tuple(_row(row) for row in csv.DictReader(file))
    except (OSError, KeyError, ValueError) as problem:
        raise WorkspaceError(f"{csv_path} is missing, damaged or of another version: {problem}") from problem
    return Scores(rows=rows, tolerance_mm=summary.tolerance_mm)


def _row(texts: Mapping[str, str]) -> LabelScore:
    """One line of the CSV file; an empty cell is NaN."""
    words, counts = ("case", "label"), ("truth_voxels", "prediction_voxels")
    values: dict[str, Any] = {name: texts[name] for name in words} | {name: int(texts[name]) for name in counts}
    numbers = [field.name for field in fields(LabelScore) if field.name not in values]
    values |= {name: float(texts[name] or "nan") for name in numbers}
    return LabelScore(**values)


def evaluate_folders(
    truth: Path,
    prediction: Path,
    *,
    labels: Labels | None = None,
    allow_missing: bool = False,
    tolerance_mm: float = TOLERANCE_MM,
    progress: Progress = silent,
) -> Scores:
    """Score every mask in ``truth`` against the one of the same name in ``prediction``; both may also be single files.

    Masks are paired by file name without image suffix. Label names come from ``labels``, else from an nnlite.json or
    dataset.json in or beside the truth folder, else the values found become "label 1", "label 2", ... All faults
    (missing predictions unless ``allow_missing``, unreadable files, unknown values, grids that differ) are listed in
    one ``DatasetError``. ``tolerance_mm`` is the distance up to which surfaces count as equal in ``nsd``. What
    ``Scores.remarks`` tells is logged as warnings.
    """
    pairs, missing = pair_masks(truth, prediction)
    lost = () if allow_missing else missing
    faults = [f"{case_id}: no prediction of that name in {prediction}; predict it as well" for case_id in lost]
    table = labels or find_labels(truth)
    scored: list[_ScoredCase] = []
    for done, pair in enumerate(pairs, start=1):
        try:
            scored.append(_score(pair, table, tolerance_mm))
        except (ImageError, DatasetError) as problem:
            faults.append(f"{pair.case_id}: {problem}")
        progress("evaluate", done, len(pairs))
    if faults:
        cases = len(pairs) + len(missing)
        raise DatasetError("\n  ".join([f"{len(faults)} of {cases} cases cannot be scored:", *faults]))
    if not pairs:
        raise DatasetError(f"none of the {len(missing)} masks in {truth} has a prediction of its name in {prediction}")
    names = (table or _joined(case.labels for case in scored)).structures
    scores = Scores(rows=tuple(row for case in scored for row in case.rows_of(names)), tolerance_mm=tolerance_mm)
    for remark in scores.remarks():
        log.warning(remark)
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScoredCase:
    """One case, scored for the labels that it was read with."""

    case_id: str
    labels: Labels
    geometry: Geometry
    rows: tuple[LabelScore, ...]

    def rows_of(self, names: Sequence[str]) -> Iterator[LabelScore]:
        """One row per name; a label that only other cases hold scores what two empty masks do."""
        known = {row.label: row for row in self.rows}
        nothing = np.zeros((1, 1, 1), dtype=np.uint8)
        for name in names:
            alone = Labels(names=("background", name), values=(0, 1))
            yield known.get(name) or score_case(self.case_id, nothing, nothing, alone, self.geometry)[0]


def _score(pair: MaskPair, table: Labels | None, tolerance_mm: float) -> _ScoredCase:
    """Read both masks of a case and compare them; the message of an error tells what is wrong with them."""
    truth, prediction = read_label(pair.truth), read_label(pair.prediction)
    if differences := truth.geometry.differences(prediction.geometry, names=("truth", "prediction")):
        raise DatasetError(
            f"{'; '.join(differences)} ({pair.prediction}); predict from the image that the truth was drawn on, "
            "or resample the prediction to the grid of the truth"
        )
    labels = table or _joined([labels_in(truth, pair.truth), labels_in(prediction, pair.prediction)])
    masks = [
        _indices(image.array[0], labels, path) for image, path in ((truth, pair.truth), (prediction, pair.prediction))
    ]
    return _ScoredCase(
        case_id=pair.case_id,
        labels=labels,
        geometry=truth.geometry,
        rows=score_case(pair.case_id, masks[0], masks[1], labels, truth.geometry, tolerance_mm=tolerance_mm),
    )


def _indices(values: np.ndarray, labels: Labels, path: Path) -> np.ndarray:
    try:
        return labels.to_indices(values)
    except DatasetError as problem:
        raise DatasetError(f"{path}: {problem}") from problem


def _joined(tables: Iterable[Labels]) -> Labels:
    return labels_of_values(value for table in tables for value in table.values)


def _summarised(rows: Sequence[LabelScore]) -> LabelSummary:
    averages = {name: _average(getattr(row, name) for row in rows) for name in MEASURES}
    return LabelSummary(cases=sum(row.truth_voxels + row.prediction_voxels > 0 for row in rows), **averages)


def _average(numbers: Iterable[float | None]) -> Average:
    """Mean and median of the numbers that are defined."""
    defined = [number for number in numbers if number is not None and not isnan(number)]
    if not defined:
        return Average(mean=None, median=None, cases=0)
    return Average(mean=fmean(defined), median=median(defined), cases=len(defined))


def _remark(label: str, cases: tuple[int, int]) -> str | None:
    """What should be known about the means of a label that so many truths and so many predictions hold."""
    match cases:
        case 0, 0:
            return f"{label}: in no truth and in no prediction; it counts in no mean"
        case 0, predicted:
            return f"{label}: in no truth but in the prediction of {_cases(predicted)}; its Dice is 0 there"
        case true, 0:
            return f"{label}: in the truth of {_cases(true)} but in no prediction; its Dice is 0, it has no distances"
    return None


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"

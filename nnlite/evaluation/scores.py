"""The scores of many cases: a row per case and label, summed up over the cases, as a table and on disk."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from nnlite.data.records import read_record, record, write_record, written_whole
from nnlite.errors import WorkspaceError
from nnlite.evaluation.case_scores import METRICS, TOLERANCE_MM, LabelScore, score_case

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Average",
    "LabelScore",
    "LabelSummary",
    "Scores",
    "Summary",
    "read_scores",
    "score_case",
]

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

    ``tolerance_mm`` is the one that ``nsd`` was computed with. Numbers of a group that is not in ``metrics`` were not
    asked for, and are None.
    """

    cases: int
    tolerance_mm: float
    metrics: tuple[str, ...] = METRICS
    foreground: dict[str, float | None]
    labels: dict[str, LabelSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One row per case and foreground label, ordered by case, then as in the label table.

    Labels that a case has not annotated have no row there; ``structures`` is the order of the whole table.
    """

    rows: tuple[LabelScore, ...]
    tolerance_mm: float = TOLERANCE_MM
    metrics: tuple[str, ...] = METRICS
    structures: tuple[str, ...] = ()

    @property
    def cases(self) -> tuple[str, ...]:
        """The scored cases in order."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    @property
    def labels(self) -> tuple[str, ...]:
        """The scored foreground labels in order."""
        scored = dict.fromkeys(row.label for row in self.rows)
        known = [name for name in self.structures if name in scored]
        return (*known, *(name for name in scored if name not in known))

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
        return Summary(
            cases=len(self.cases),
            tolerance_mm=self.tolerance_mm,
            metrics=self.metrics,
            foreground=foreground,
            labels=labels,
        )

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
        columns = [field.name for field in fields(LabelScore)]
        with written_whole(csv_path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(columns)
            table.writerows([_cell(getattr(row, name)) for name in columns] for row in self.rows)
        write_record(json_path, self.summary())


def read_scores(csv_path: Path, json_path: Path) -> Scores:
    """Read what ``Scores.write`` wrote; ``WorkspaceError`` where the files are not what they should be."""
    summary = read_record(json_path, Summary)
    try:
        with csv_path.open(encoding="utf-8", newline="") as file:
            rows = tuple(_row(row) for row in csv.DictReader(file))
    except (OSError, KeyError, ValueError) as problem:
        raise WorkspaceError(f"{csv_path} is missing, damaged or of another version: {problem}") from problem
    return Scores(
        rows=rows, tolerance_mm=summary.tolerance_mm, metrics=summary.metrics, structures=tuple(summary.labels)
    )


def _cell(value: str | int | float) -> str | int:
    """A value as it stands in the CSV file: six digits, nothing for NaN."""
    if isinstance(value, float):
        return "" if isnan(value) else f"{value:.6g}"
    return value


def _row(texts: Mapping[str, str]) -> LabelScore:
    """One line of the CSV file; an empty cell is NaN."""
    words, counts = ("case", "label"), ("truth_voxels", "prediction_voxels")
    values: dict[str, Any] = {name: texts[name] for name in words} | {name: int(texts[name]) for name in counts}
    numbers = [field.name for field in fields(LabelScore) if field.name not in values]
    values |= {name: float(texts[name] or "nan") for name in numbers}
    return LabelScore(**values)


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

"""The instance scores of many images: a row each, summed up over all of them, and on disk.

Two ways to sum up are in use and both are given: the mean over images of each image's average precision (Data Science
Bowl 2018), in which an image with two nuclei weighs as much as one with two hundred, and that of all instances together
(StarDist). Images without any instance, true or predicted, have no average precision and drop out of the mean.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import fmean

import numpy as np

from nnlite.data.records import record, write_record, written_whole
from nnlite.errors import WorkspaceError
from nnlite.evaluation.instances import THRESHOLDS, InstanceOverlaps, Matches

PRECISIONS = tuple(f"average_precision_{threshold:.2f}" for threshold in THRESHOLDS)  # columns of the CSV file


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceScore:
    """How the instances of one image fare; ``found`` counts the matches at each of ``THRESHOLDS``."""

    case: str
    true_instances: int
    predicted_instances: int
    aggregated_jaccard: float
    found: tuple[int, ...]

    def matches(self, place: int) -> Matches:
        """The counts at the threshold of that place."""
        found = self.found[place]
        return Matches(found=found, false_alarms=self.predicted_instances - found, missed=self.true_instances - found)

    @property
    def average_precision(self) -> tuple[float, ...]:
        """TP / (TP + FP + FN) at each threshold."""
        return tuple(self.matches(place).precision for place in range(len(THRESHOLDS)))

    @property
    def f1(self) -> float:
        """At the lowest threshold, 0.5."""
        return self.matches(0).f1


@record
class InstanceSummary:
    """Instances over all images; None where there are none. The tuples have an entry for each of ``thresholds``.

    ``average_precision`` and ``f1`` (at 0.5) are those of all instances together, ``mean_average_precision`` the mean
    of the former over the thresholds; ``average_precision_by_image`` and ``aggregated_jaccard`` are means over images.
    """

    cases: int
    true_instances: int
    predicted_instances: int
    thresholds: tuple[float, ...]
    average_precision: tuple[float | None, ...]
    mean_average_precision: float | None
    f1: float | None
    average_precision_by_image: tuple[float | None, ...]
    aggregated_jaccard: float | None

    def in_words(self) -> str:
        """The most telling numbers in one line."""
        numbers = {
            "AP 0.5": self.average_precision[0],
            "AP 0.5 to 0.95": self.mean_average_precision,
            "F1": self.f1,
            "AJI": self.aggregated_jaccard,
        }
        told = ", ".join(f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in numbers.items())
        return f"{told} over {self.true_instances} instances"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceScores:
    """One row per image."""

    rows: tuple[InstanceScore, ...]

    def summary(self) -> InstanceSummary:
        """All instances together, and means over images."""
        true, predicted = (sum(getattr(row, f"{which}_instances") for row in self.rows) for which in TRUE_AND_PREDICTED)
        found = [sum(row.found[place] for row in self.rows) for place in range(len(THRESHOLDS))]
        together = [Matches(found=n, false_alarms=predicted - n, missed=true - n) for n in found]
        return InstanceSummary(
            cases=len(self.rows),
            true_instances=true,
            predicted_instances=predicted,
            thresholds=THRESHOLDS,
            average_precision=tuple(_known(one.precision) for one in together),
            mean_average_precision=_mean(one.precision for one in together),
            f1=_known(together[0].f1),
            average_precision_by_image=tuple(
                _mean(row.average_precision[place] for row in self.rows) for place in range(len(THRESHOLDS))
            ),
            aggregated_jaccard=_mean(row.aggregated_jaccard for row in self.rows),
        )

    def write(self, csv_path: Path, json_path: Path) -> None:
        """Write the rows as CSV (undefined numbers stay empty) and the summary as JSON; both files appear whole."""
        with written_whole(csv_path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("case", "true_instances", "predicted_instances", "aggregated_jaccard", "f1", *PRECISIONS))
            for row in self.rows:
                numbers = [_cell(value) for value in (row.aggregated_jaccard, row.f1, *row.average_precision)]
                table.writerow((row.case, row.true_instances, row.predicted_instances, *numbers))
        write_record(json_path, self.summary())


TRUE_AND_PREDICTED = ("true", "predicted")


def score_instances(case_id: str, truth: np.ndarray, prediction: np.ndarray) -> InstanceScore:
    """Score one image; both maps hold instance numbers on one grid, 0 is background."""
    overlaps = InstanceOverlaps.of(truth, prediction)
    return InstanceScore(
        case=case_id,
        true_instances=len(overlaps.truth_voxels),
        predicted_instances=len(overlaps.prediction_voxels),
        aggregated_jaccard=overlaps.aggregated_jaccard(),
        found=tuple(overlaps.matches(threshold).found for threshold in THRESHOLDS),
    )


def read_instance_scores(csv_path: Path) -> InstanceScores:
    """Read the rows that ``InstanceScores.write`` wrote; ``WorkspaceError`` where the file is not what it should be."""
    try:
        with csv_path.open(encoding="utf-8", newline="") as file:
            return InstanceScores(rows=tuple(_row(row) for row in csv.DictReader(file)))
    except (OSError, KeyError, ValueError) as problem:
        raise WorkspaceError(f"{csv_path} is missing, damaged or of another version: {problem}") from problem


def instance_scores_of(csv_paths: Iterable[Path], cases: Collection[str]) -> InstanceScores | None:
    """What the files hold of these cases; None where one of the files is not there."""
    paths = tuple(csv_paths)
    if not all(path.exists() for path in paths):
        return None
    rows = (row for path in paths for row in read_instance_scores(path).rows)
    return InstanceScores(rows=tuple(row for row in rows if row.case in cases))


def instance_summary(csv_paths: Iterable[Path], cases: Collection[str]) -> InstanceSummary | None:
    """Sum up what the files hold of these cases; None where one of the files is not there."""
    scores = instance_scores_of(csv_paths, cases)
    return None if scores is None else scores.summary()


def _row(texts: Mapping[str, str]) -> InstanceScore:
    """One line of the CSV file; an empty cell is NaN."""
    true, predicted = (int(texts[f"{which}_instances"]) for which in TRUE_AND_PREDICTED)
    precisions = [float(texts[name] or 0) for name in PRECISIONS]
    return InstanceScore(
        case=texts["case"],
        true_instances=true,
        predicted_instances=predicted,
        aggregated_jaccard=float(texts["aggregated_jaccard"] or "nan"),
        # precision = TP / (true + predicted - TP), solved for TP: six digits tell it among a hundred thousand
        found=tuple(round(one * (true + predicted) / (1 + one)) for one in precisions),
    )


def _known(value: float) -> float | None:
    return None if isnan(value) else value


def _mean(values: Iterable[float]) -> float | None:
    known: Sequence[float] = [value for value in values if not isnan(value)]
    return fmean(known) if known else None


def _cell(value: float) -> str:
    return "" if isnan(value) else f"{value:.6g}"

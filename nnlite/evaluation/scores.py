"""Score predicted masks against the truth: per case and label, and summed up over the cases.

Masks are compared voxel by voxel, so both must lie on the same grid: nothing is resampled behind the user's back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np

from nnlite.data.image import NO_DEPTH_MM, Geometry, read_label
from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.data.records import record, write_record, written_whole
from nnlite.errors import DatasetError, ImageError
from nnlite.evaluation import metrics
from nnlite.evaluation.masks import MaskPair, find_labels, labels_in, labels_of_values, pair_masks

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """How one label fares in one case. NaN: not defined, see ``metrics``; millilitres are NaN for 2D images."""

    case: str
    label: str
    dice: float
    iou: float
    sensitivity: float
    precision: float
    truth_voxels: int
    prediction_voxels: int
    truth_ml: float
    prediction_ml: float


@record
class Average:
    """Over all cases where the number is defined; None where it is defined in none."""

    mean: float | None
    median: float | None


@record
class LabelSummary:
    """One label over all cases; ``cases`` counts those that contain it in truth or prediction."""

    cases: int
    dice: Average
    iou: Average
    sensitivity: Average
    precision: Average
    truth_ml: Average
    prediction_ml: Average


@record
class Summary:
    """All foreground labels over all cases. ``foreground`` holds the mean over labels of each label's mean."""

    cases: int
    foreground: dict[str, float | None]
    labels: dict[str, LabelSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One row per case and foreground label, ordered by case, then as in the label table."""

    rows: tuple[LabelScore, ...]

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
            for name in ("dice", "iou", "sensitivity", "precision")
        }
        return Summary(cases=len(self.cases), foreground=foreground, labels=labels)

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


def score_case(
    case_id: str, truth: np.ndarray, prediction: np.ndarray, labels: Labels, geometry: Geometry
) -> tuple[LabelScore, ...]:
    """Score each foreground label of one case; both masks hold label indices (z, y, x) on the grid of ``geometry``."""
    return _rows(case_id, metrics.joint_histogram(truth, prediction, labels.count), labels, _voxel_ml(geometry))


def evaluate_folders(
    truth: Path,
    prediction: Path,
    *,
    labels: Labels | None = None,
    allow_missing: bool = False,
    progress: Progress = silent,
) -> Scores:
    """Score every mask in ``truth`` against the one of the same name in ``prediction``; both may also be single files.

    Masks are paired by file name without image suffix. Label names come from ``labels``, else from an nnlite.json or
    dataset.json in or beside the truth folder, else the values found become "label 1", "label 2", ... All faults
    (missing predictions unless ``allow_missing``, unreadable files, unknown values, grids that differ) are listed in
    one ``DatasetError``.
    """
    pairs, missing = pair_masks(truth, prediction)
    lost = () if allow_missing else missing
    faults = [f"{case_id}: no prediction of that name in {prediction}; predict it as well" for case_id in lost]
    table = labels or find_labels(truth)
    counted: list[_CountedCase] = []
    for done, pair in enumerate(pairs, start=1):
        try:
            counted.append(_count(pair, table))
        except (ImageError, DatasetError) as problem:
            faults.append(f"{pair.case_id}: {problem}")
        progress("evaluate", done, len(pairs))
    if faults:
        cases = len(pairs) + len(missing)
        raise DatasetError("\n  ".join([f"{len(faults)} of {cases} cases cannot be scored:", *faults]))
    if not pairs:
        raise DatasetError(f"none of the {len(missing)} masks in {truth} has a prediction of its name in {prediction}")
    table = table or _joined(case.labels for case in counted)
    rows = [row for case in counted for row in _rows(case.case_id, case.histogram_in(table), table, case.voxel_ml)]
    return Scores(rows=tuple(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _CountedCase:
    """The joint histogram of one case, in the order of its own labels."""

    case_id: str
    histogram: np.ndarray
    labels: Labels
    voxel_ml: float

    def histogram_in(self, table: Labels) -> np.ndarray:
        """The same counts in the order of a table that holds at least these labels."""
        places = [table.values.index(value) for value in self.labels.values]
        histogram = np.zeros((table.count, table.count), dtype=np.int64)
        histogram[np.ix_(places, places)] = self.histogram
        return histogram


def _count(pair: MaskPair, table: Labels | None) -> _CountedCase:
    """Read both masks of a case and count their labels; the message of an error tells what is wrong with them."""
    truth, prediction = read_label(pair.truth), read_label(pair.prediction)
    if differences := truth.geometry.differences(prediction.geometry, names=("truth", "prediction")):
        raise DatasetError(
            f"{'; '.join(differences)} ({pair.prediction}); predict from the image that the truth was drawn on, "
            "or resample the prediction to the grid of the truth"
        )
    labels = table or _joined([labels_in(truth, pair.truth), labels_in(prediction, pair.prediction)])
    truth_indices = _indices(truth.array[0], labels, pair.truth)
    prediction_indices = _indices(prediction.array[0], labels, pair.prediction)
    return _CountedCase(
        case_id=pair.case_id,
        histogram=metrics.joint_histogram(truth_indices, prediction_indices, labels.count),
        labels=labels,
        voxel_ml=_voxel_ml(truth.geometry),
    )


def _indices(values: np.ndarray, labels: Labels, path: Path) -> np.ndarray:
    try:
        return labels.to_indices(values)
    except DatasetError as problem:
        raise DatasetError(f"{path}: {problem}") from problem


def _joined(tables: Iterable[Labels]) -> Labels:
    return labels_of_values(value for table in tables for value in table.values)


def _rows(case_id: str, histogram: np.ndarray, labels: Labels, voxel_ml: float) -> tuple[LabelScore, ...]:
    """One row per foreground label from the joint histogram of a case."""
    hits, false_alarms, misses = metrics.overlap(histogram)
    dice, iou = metrics.dice(hits, false_alarms, misses), metrics.iou(hits, false_alarms, misses)
    sensitivity, precision = metrics.sensitivity(hits, misses), metrics.precision(hits, false_alarms)
    return tuple(
        LabelScore(
            case=case_id,
            label=labels.names[i],
            dice=float(dice[i]),
            iou=float(iou[i]),
            sensitivity=float(sensitivity[i]),
            precision=float(precision[i]),
            truth_voxels=int(hits[i] + misses[i]),
            prediction_voxels=int(hits[i] + false_alarms[i]),
            truth_ml=float(hits[i] + misses[i]) * voxel_ml,
            prediction_ml=float(hits[i] + false_alarms[i]) * voxel_ml,
        )
        for i in range(1, labels.count)
    )


def _voxel_ml(geometry: Geometry) -> float:
    """Volume of a voxel in millilitres; NaN for a 2D image, whose pixels have no depth."""
    planar = geometry.shape[0] == 1 and geometry.spacing_mm[0] == NO_DEPTH_MM
    return float("nan") if planar else geometry.voxel_volume_ml


def _summarised(rows: Sequence[LabelScore]) -> LabelSummary:
    return LabelSummary(
        cases=sum(row.truth_voxels + row.prediction_voxels > 0 for row in rows),
        dice=_average(row.dice for row in rows),
        iou=_average(row.iou for row in rows),
        sensitivity=_average(row.sensitivity for row in rows),
        precision=_average(row.precision for row in rows),
        truth_ml=_average(row.truth_ml for row in rows),
        prediction_ml=_average(row.prediction_ml for row in rows),
    )


def _average(numbers: Iterable[float | None]) -> Average:
    """Mean and median of the numbers that are defined."""
    defined = [number for number in numbers if number is not None and not isnan(number)]
    return Average(mean=fmean(defined), median=median(defined)) if defined else Average(mean=None, median=None)

"""Score folders of predicted masks against the truth.

Masks are compared voxel by voxel, so both must lie on the same grid: nothing is resampled behind the user's back.
Threads share the cases: SimpleITK and numpy release the interpreter while they work.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnlite.data.annotated import Annotated, annotated_structures, names_of
from nnlite.data.channels import grid_differences
from nnlite.data.image import Geometry, read_label
from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.errors import DatasetError, ImageError
from nnlite.evaluation.case_scores import METRICS, TOLERANCE_MM, LabelScore, score_case
from nnlite.evaluation.masks import MaskPair, find_annotated, find_labels, labels_in, labels_of_values, pair_masks
from nnlite.evaluation.scores import Scores

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """How each case is compared: its label table if one is known, what is asked for, and what is annotated where."""

    table: Labels | None
    tolerance_mm: float
    metrics: Collection[str]
    annotated: Mapping[str, tuple[str, ...]]


def evaluate_folders(
    truth: Path,
    prediction: Path,
    *,
    labels: Labels | None = None,
    allow_missing: bool = False,
    tolerance_mm: float = TOLERANCE_MM,
    metrics: Collection[str] = METRICS,
    workers: int = 1,
    progress: Progress = silent,
) -> Scores:
    """Score every mask in ``truth`` against the one of the same name in ``prediction``; both may also be single files.

    Masks are paired by file name without image suffix. Label names come from ``labels``, else from an nnlite.json or
    dataset.json in or beside the truth folder, else the values found become "label 1", "label 2", ... What a case has
    not annotated, as told there, is not scored in it. All faults (missing predictions unless ``allow_missing``,
    unreadable files, unknown values, grids that differ) are listed in
    one ``DatasetError``. ``tolerance_mm`` and ``metrics`` are those of ``score_case``. At most ``workers`` cases are in
    memory at a time. What ``Scores.remarks`` tells is logged as warnings.
    """
    pairs, missing = pair_masks(truth, prediction)
    lost = () if allow_missing else missing
    faults = [f"{case_id}: no prediction of that name in {prediction}; predict it as well" for case_id in lost]
    comparison = _Comparison(
        table=labels or find_labels(truth),
        tolerance_mm=tolerance_mm,
        metrics=metrics,
        annotated=find_annotated(truth),
    )
    scored: list[_ScoredCase] = []
    for pair, found in zip(pairs, _score_all(pairs, comparison, workers, progress), strict=True):
        if isinstance(found, _ScoredCase):
            scored.append(found)
        else:
            faults.append(f"{pair.case_id}: {found}")
    if faults:
        cases = len(pairs) + len(missing)
        raise DatasetError("\n  ".join([f"{len(faults)} of {cases} cases cannot be scored:", *faults]))
    if not pairs:
        raise DatasetError(f"none of the {len(missing)} masks in {truth} has a prediction of its name in {prediction}")
    names = (comparison.table or _joined(case.labels for case in scored)).structures
    rows = tuple(row for case in scored for row in case.rows_of(names, comparison))
    asked = tuple(name for name in METRICS if name in metrics)
    scores = Scores(rows=rows, tolerance_mm=tolerance_mm, metrics=asked, structures=names)
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
    annotated: Annotated | None

    def rows_of(self, names: Sequence[str], comparison: _Comparison) -> Iterator[LabelScore]:
        """One row per name; a label that only other cases hold scores what two empty masks do.

        Those that are not annotated have none.
        """
        if self.annotated is not None:
            names = names_of(self.labels, self.annotated)
        known = {row.label: row for row in self.rows}
        nothing = np.zeros((1, 1, 1), dtype=np.uint8)
        for name in names:
            alone = Labels(names=("background", name), values=(0, 1))
            yield (
                known.get(name)
                or score_case(self.case_id, nothing, nothing, alone, self.geometry, metrics=comparison.metrics)[0]
            )


def _score_all(
    pairs: Sequence[MaskPair], comparison: _Comparison, workers: int, progress: Progress
) -> list[_ScoredCase | str]:
    """What was found of each pair, in their order: its scores, or what is wrong with its masks in words."""
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="evaluate") as pool:
        running = [pool.submit(_score_or_fault, pair, comparison) for pair in pairs]
        try:
            for done, future in enumerate(as_completed(running), start=1):
                future.result()  # an error that is no fault of the masks ends it now, not after all cases
                progress("evaluate", done, len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in running]


def _score_or_fault(pair: MaskPair, comparison: _Comparison) -> _ScoredCase | str:
    try:
        return _score(pair, comparison)
    except (ImageError, DatasetError) as problem:
        return str(problem)


def _score(pair: MaskPair, comparison: _Comparison) -> _ScoredCase:
    """Read both masks of a case and compare them; the message of an error tells what is wrong with them."""
    truth, prediction = read_label(pair.truth), read_label(pair.prediction)
    if differences := grid_differences(truth, prediction, names=("truth", "prediction")):
        raise DatasetError(
            f"{'; '.join(differences)} ({pair.prediction}); predict from the image that the truth was drawn on, "
            "or resample the prediction to the grid of the truth"
        )
    labels = comparison.table or _joined([labels_in(truth, pair.truth), labels_in(prediction, pair.prediction)])
    true_mask, mask = (
        _indices(image.array[0], labels, path) for image, path in ((truth, pair.truth), (prediction, pair.prediction))
    )
    annotated = annotated_structures(labels, comparison.annotated.get(pair.case_id))
    rows = score_case(
        pair.case_id,
        true_mask,
        mask,
        labels,
        truth.geometry,
        tolerance_mm=comparison.tolerance_mm,
        metrics=comparison.metrics,
        annotated=annotated,
    )
    return _ScoredCase(case_id=pair.case_id, labels=labels, geometry=truth.geometry, rows=rows, annotated=annotated)


def _indices(values: np.ndarray, labels: Labels, path: Path) -> np.ndarray:
    try:
        return labels.to_indices(values)
    except DatasetError as problem:
        raise DatasetError(f"{path}: {problem}") from problem


def _joined(tables: Iterable[Labels]) -> Labels:
    return labels_of_values(value for table in tables for value in table.values)

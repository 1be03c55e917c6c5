"""Score masks against the truth, and keep the scores."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.errors import UsageError
from nnlite.evaluation.case_scores import METRICS, TOLERANCE_MM
from nnlite.evaluation.folders import evaluate_folders
from nnlite.evaluation.instance_folders import evaluate_instances as evaluate_folder_instances
from nnlite.evaluation.instance_scores import InstanceScores
from nnlite.evaluation.scores import Scores
from nnlite.pipeline.machine import workers_for_files


def evaluate(
    truth: Path,
    prediction: Path,
    *,
    output: Path | None = None,
    labels: Labels | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    metrics: Collection[str] = METRICS,
    progress: Progress = silent,
) -> Scores:
    """Score the masks in ``prediction`` against those of the same name in ``truth`` (folders or single files).

    With ``output`` the scores are written there as ``scores.csv`` and ``scores.json``. Label names come from
    ``labels``, else from a dataset.json or nnlite.json beside the truth. Masks on different grids are refused.
    ``tolerance_mm`` is that of the surface Dice. Of ``metrics``, "distances" and "lesions" may be left out: overlap and
    volumes alone take less than half the time. Each core scores a case, as far as they fit into memory.
    """
    if unknown := set(metrics) - set(METRICS):
        raise UsageError(f"there are no metrics {', '.join(sorted(unknown))}; there are {', '.join(METRICS)}")
    if not 0 < tolerance_mm < math.inf:
        raise UsageError(f"a tolerance of {tolerance_mm:g} mm makes no sense; give a positive number of millimetres")
    if output is not None and output.is_file():
        raise UsageError(f"{output} is a file; give the folder for the scores")
    masks = truth.iterdir() if truth.is_dir() else [truth]
    scores = evaluate_folders(
        truth,
        prediction,
        labels=labels,
        tolerance_mm=tolerance_mm,
        metrics=metrics,
        workers=workers_for_files([path] * 2 for path in masks),
        progress=progress,
    )
    if output is not None:
        scores.write(output / "scores.csv", output / "scores.json")
    return scores


def evaluate_instances(
    truth: Path, prediction: Path, *, output: Path | None = None, progress: Progress = silent
) -> InstanceScores:
    """Score single objects of the masks in ``prediction``, see ``nnlite.evaluation.instance_folders``.

    With ``output`` the scores are written there as ``instances.csv`` and ``instances.json``.
    """
    scores = evaluate_folder_instances(truth, prediction, progress=progress)
    if output is not None:
        scores.write(output / "instances.csv", output / "instances.json")
    return scores

"""Predict the cases that a fold held out, in full, and score them: what cross-validation is made of.

What tells about the reliability of these predictions is measured on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch

from nnlite.data.dataset import Case
from nnlite.data.image import read_label, write_mask
from nnlite.data.progress import Progress, silent
from nnlite.evaluation.scores import LabelScore, Scores, score_case
from nnlite.inference.predict import predict_case
from nnlite.inference.reliability import ReliabilityMeter
from nnlite.pipeline.load_model import load
from nnlite.pipeline.reliability import Measured, read_measured, write_measured
from nnlite.preprocessing.store import StoredCase
from nnlite.workspace import RunFolder

log = logging.getLogger(__name__)


def score_held_out(
    run: RunFolder,
    cases: Sequence[Case],
    stored: Mapping[str, StoredCase],
    *,
    device: torch.device,
    progress: Progress = silent,
) -> Scores:
    """Predict these cases with the run's final model and score them against their labels.

    Masks go to the run's validation folder, on the grid and in the format of the labels; scores to its scores.csv and
    scores.json, what was measured of their reliability to its reliability.json. ``stored`` holds the same cases
    preprocessed for the run's configuration.
    """
    model = load([run.checkpoint_final], device=device)
    labels = model.plan.labels
    rows: list[LabelScore] = []
    measured: Measured = {}
    for done, case in enumerate(cases, start=1):
        assert case.label is not None, f"{case.id} is held out to be scored, so it has a label"
        meter = ReliabilityMeter(labels)
        indices = predict_case(model, stored[case.id], meter=meter)
        measured[case.id] = meter.features()
        truth = read_label(case.label)
        mask_path = run.validation / f"{case.id}{truth.stored.mask_suffix}"
        write_mask(mask_path, labels.to_values(indices), like=truth)
        rows += score_case(case.id, labels.to_indices(truth.array[0]), indices, labels, truth.geometry)
        progress("predict held-out cases", done, len(cases))
    scores = Scores(rows=tuple(rows))
    for remark in scores.remarks():
        log.warning(remark)
    write_measured(run, measured)
    scores.write(run.scores, run.summary)
    return scores


def measure_held_out(
    run: RunFolder, stored: Mapping[str, StoredCase], *, device: torch.device, progress: Progress = silent
) -> None:
    """Measure the reliability of held-out cases of which nothing is known: those of runs of an earlier nnlite.

    They are predicted once more; masks and scores stay as they are.
    """
    measured = read_measured(run)
    missing = [case_id for case_id in stored if case_id not in measured]
    if not missing:
        return
    model = load([run.checkpoint_final], device=device)
    for done, case_id in enumerate(missing, start=1):
        meter = ReliabilityMeter(model.plan.labels)
        predict_case(model, stored[case_id], meter=meter)
        measured[case_id] = meter.features()
        progress(f"measure reliability of {run.configuration} {run.fold}", done, len(missing))
    write_measured(run, measured)

"""Predict the cases that a fold held out, in full, and score them: what cross-validation is made of.

What tells about the reliability of these predictions is measured on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from nnlite.data.annotated import annotated_structures
from nnlite.data.dataset import Case
from nnlite.data.image import read_label, write_mask
from nnlite.data.leftovers import clear_leftovers
from nnlite.data.progress import Progress, silent
from nnlite.errors import StoppedError
from nnlite.evaluation.scores import LabelScore, Scores, score_case
from nnlite.inference.predict import Model, predict_case
from nnlite.inference.reliability import LabelFeatures, ReliabilityMeter
from nnlite.inference.retreat import with_retreat
from nnlite.pipeline.load_model import load
from nnlite.pipeline.reliability import read_measured, write_measured
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
    stop: Callable[[], bool] = lambda: False,
) -> Scores:
    """Predict these cases with the run's final model and score them against their labels.

    Cases that an interrupted sitting predicted are not predicted again. ``stop`` is asked after each case; when it says
    so, ``StoppedError`` is raised.

    Masks go to the run's validation folder, on the grid and in the format of the labels; scores to its scores.csv and
    scores.json, what was measured of their reliability to its reliability.json. ``stored`` holds the same cases
    preprocessed for the run's configuration.
    """
    model = load([run.checkpoint_final], device=device)
    labels = model.plan.labels
    rows: list[LabelScore] = []
    measured = read_measured(run)
    clear_leftovers(run.validation, alone=True)
    for done, case in enumerate(cases, start=1):
        assert case.label is not None, f"{case.id} is held out to be scored, so it has a label"
        truth = read_label(case.label)
        mask_path = run.validation / f"{case.id}{truth.stored.mask_suffix}"
        if case.id in measured and mask_path.exists():  # both are of this model: another one begins without them
            indices = labels.to_indices(read_label(mask_path).array[0])
        else:
            indices, measured[case.id] = _predicted(model, case.id, stored[case.id])
            write_mask(mask_path, labels.to_values(indices), like=truth)
            write_measured(run, measured)
        annotated = annotated_structures(labels, case.annotated)
        true = labels.to_indices(truth.array[0])
        rows += score_case(case.id, true, indices, labels, truth.geometry, annotated=annotated)
        progress("predict held-out cases", done, len(cases))
        if stop() and done < len(cases):
            raise StoppedError(f"stopped after {done} of {len(cases)} held-out cases, which are kept")
    scores = Scores(rows=tuple(rows), structures=labels.structures)
    for remark in scores.remarks():
        log.warning(remark)
    scores.write(run.scores, run.summary)
    return scores


def _predicted(model: Model, case_id: str, case: StoredCase) -> tuple[np.ndarray, tuple[LabelFeatures, ...]]:
    """Label indices of a case on the grid of its image, and what was measured of each label."""
    labels = model.plan.labels

    def predict(models: Sequence[Model]) -> tuple[np.ndarray, tuple[LabelFeatures, ...]]:
        meter = ReliabilityMeter(labels)
        return predict_case(models[0], case, meter=meter), meter.features()

    return with_retreat([model], predict, case_id)


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
        _, measured[case_id] = _predicted(model, case_id, stored[case_id])
        progress(f"measure reliability of {run.configuration} {run.fold}", done, len(missing))
    write_measured(run, measured)

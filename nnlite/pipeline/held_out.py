"""Predict the cases that a fold held out, in full, and score them: what cross-validation is made of.

What tells about the reliability of these predictions is measured on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from nnlite.data.annotated import annotated_structures
from nnlite.data.dataset import Case
from nnlite.data.image import Image, read_label, write_mask
from nnlite.data.labels import Labels
from nnlite.data.leftovers import clear_leftovers
from nnlite.data.progress import Progress, silent
from nnlite.errors import StoppedError
from nnlite.evaluation.instance_scores import InstanceScore, InstanceScores, score_instances
from nnlite.evaluation.scores import LabelScore, Scores, score_case
from nnlite.inference.predict import Model, predict_case
from nnlite.inference.reliability import LabelFeatures, ReliabilityMeter
from nnlite.inference.retreat import with_retreat
from nnlite.pipeline.instance_maps import instances_path, write_instances
from nnlite.pipeline.load_model import load
from nnlite.pipeline.reliability import read_measured, write_measured
from nnlite.preprocessing.instances import find_instances
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
    scores.json, what was measured of their reliability to its reliability.json. Where instances are told apart, their
    maps lie beside the masks, their scores in its instances.csv and instances.json. ``stored`` holds the same cases
    preprocessed for the run's configuration.
    """
    model = load([run.checkpoint_final], device=device)
    labels = model.plan.labels
    rows: list[LabelScore] = []
    of_instances: list[InstanceScore] = []
    measured = read_measured(run)
    clear_leftovers(run.validation, alone=True)
    for done, case in enumerate(cases, start=1):
        assert case.label is not None, f"{case.id} is held out to be scored, so it has a label"
        truth = read_label(case.label)
        mask_path = run.validation / f"{case.id}{truth.stored.mask_suffix}"
        map_path = instances_path(run.validation, case.id, truth.stored)
        there = mask_path.exists() and (labels.instances is None or map_path.exists())
        if case.id in measured and there:  # all are of this model: another one begins without them
            indices = labels.to_indices(read_label(mask_path).array[0])
        else:
            found, measured[case.id] = _predicted(model, case.id, stored[case.id])
            indices = labels.without_border(found)
            if (instances := find_instances(found, indices, labels)) is not None:
                write_instances(map_path, instances, truth.stored)
            write_mask(mask_path, labels.to_values(indices), like=truth)
            write_measured(run, measured)
        if labels.instances is not None:
            of_instances.append(_score_instances(case.id, truth, map_path, labels))
        annotated = annotated_structures(labels, case.annotated)
        true = labels.to_indices(truth.array[0])
        rows += score_case(case.id, true, indices, labels, truth.geometry, annotated=annotated)
        progress("predict held-out cases", done, len(cases))
        if stop() and done < len(cases):
            raise StoppedError(f"stopped after {done} of {len(cases)} held-out cases, which are kept")
    scores = Scores(rows=tuple(rows), structures=labels.structures)
    for remark in scores.remarks():
        log.warning(remark)
    if of_instances:
        InstanceScores(rows=tuple(of_instances)).write(run.instance_scores, run.instance_summary)
    scores.write(run.scores, run.summary)
    return scores


def _score_instances(case_id: str, truth: Image, map_path: Path, labels: Labels) -> InstanceScore:
    """The instances that were predicted for a held-out case against the true ones; ignored voxels count in neither."""
    true, found = truth.array[0], read_label(map_path).array[0]
    if labels.ignore is not None:
        found = np.where(true == labels.ignore, 0, found)
    return score_instances(case_id, labels.to_instances(true), found)


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
        write_measured(run, measured)
        progress(f"measure reliability of {run.configuration} {run.fold}", done, len(missing))

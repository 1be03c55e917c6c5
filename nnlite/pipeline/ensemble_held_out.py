"""Predict and score the held-out cases with ensembles of configurations, each case by networks that never saw it.

Every network runs once per case, and what it says of a slab feeds all ensembles that it is a member of; no
probabilities are kept. A mask that is there stays, so that an interrupted round goes on where it stopped; what tells
about the reliability of the predictions is measured on the way and kept case by case, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nnlite.data.annotated import annotated_structures
from nnlite.data.dataset import Case, Dataset
from nnlite.data.image import Image, read_label, write_mask
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record, record, write_record
from nnlite.data.split import Split
from nnlite.evaluation.scores import LabelScore, Scores, read_scores, score_case
from nnlite.inference.ensemble import combine_each
from nnlite.inference.predict import Model, restorable_logits
from nnlite.inference.reliability import ReliabilityMeter
from nnlite.inference.retreat import with_retreat
from nnlite.pipeline.cross_validated import CrossValidated
from nnlite.pipeline.load_model import load
from nnlite.pipeline.prepare_cases import prepare
from nnlite.pipeline.reliability import read_measured, write_measured
from nnlite.pipeline.selection import TrainedRun, trained_run, with_first_stage
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.workspace import EnsembleFolder, Workspace

Members = tuple[str, ...]
"""Names of the configurations of an ensemble, in the order in which their probabilities are added."""


@record
class EnsembleMembers:
    """The trainings whose networks answered together, and those that cascades among them continue from."""

    runs: tuple[TrainedRun, ...]


def score_ensembles(
    dataset: Dataset,
    workspace: Workspace,
    finished: Mapping[str, CrossValidated],
    ensembles: Sequence[Members],
    folds: Mapping[str, Split],
    *,
    device: torch.device,
    progress: Progress = silent,
) -> dict[Members, Scores]:
    """Scores of all held-out cases for each ensemble; what was predicted by the same trainings is not done again."""
    stamps = {
        name: [trained_run(run) for run in with_first_stage(workspace, one.runs.values())]
        for name, one in finished.items()
    }
    folders = {members: workspace.ensemble(members) for members in ensembles}
    for members, folder in folders.items():
        runs = dict.fromkeys(stamp for name in members for stamp in stamps[name])  # a first stage may be a member, too
        _begin(folder, EnsembleMembers(runs=tuple(runs)))
    missing = {members: folder for members, folder in folders.items() if not folder.summary.exists()}
    cases = {case.id: case for case in dataset.cases}
    if missing:
        _predict_missing(dataset, workspace, finished, missing, folds, device, progress)
    for members, folder in missing.items():
        labels = finished[members[0]].plan.labels
        rows: list[LabelScore] = []
        for case_id in (case_id for split in folds.values() for case_id in split.validation):
            truth = truth_of(cases[case_id])
            mask = read_label(_mask(folder, case_id, truth))
            true, predicted = (labels.to_indices(image.array[0]) for image in (truth, mask))
            annotated = annotated_structures(labels, cases[case_id].annotated)
            rows += score_case(case_id, true, predicted, labels, truth.geometry, annotated=annotated)
        Scores(rows=tuple(rows), structures=labels.structures).write(folder.scores, folder.summary)
    return {members: read_scores(folder.scores, folder.summary) for members, folder in folders.items()}


def truth_of(case: Case) -> Image:
    """The true mask of a held-out case."""
    assert case.label is not None, f"{case.id} is held out to be scored, so it has a label"
    return read_label(case.label)


def _begin(folder: EnsembleFolder, members: EnsembleMembers) -> None:
    """Make room for the predictions of these trainings: those of others are removed."""
    if folder.members.exists() and read_record(folder.members, EnsembleMembers) == members:
        return
    shutil.rmtree(folder.folder, ignore_errors=True)
    write_record(folder.members, members)


def measure_ensemble(
    dataset: Dataset,
    workspace: Workspace,
    finished: Mapping[str, CrossValidated],
    members: Members,
    folds: Mapping[str, Split],
    *,
    device: torch.device,
    progress: Progress = silent,
) -> None:
    """Measure the reliability of held-out cases of which nothing is known; masks that are there stay as they are."""
    folder = workspace.ensemble(members)
    if not all(case_id in read_measured(folder) for split in folds.values() for case_id in split.validation):
        _predict_missing(dataset, workspace, finished, {members: folder}, folds, device, progress)


def _predict_missing(
    dataset: Dataset,
    workspace: Workspace,
    finished: Mapping[str, CrossValidated],
    folders: Mapping[Members, EnsembleFolder],
    folds: Mapping[str, Split],
    device: torch.device,
    progress: Progress,
) -> None:
    """Write the masks that are not there yet, and what their reliability tells, case by case: all ensembles at once."""
    names = sorted({name for members in folders for name in members})
    groups = [[names.index(name) for name in members] for members in folders]
    stores = [_store(dataset, workspace, finished[name], progress) for name in names]
    cases = {case.id: case for case in dataset.cases}
    measured = [read_measured(folder) for folder in folders.values()]
    done, total = 0, sum(len(split.validation) for split in folds.values())
    for fold, split in folds.items():
        models: list[Model] = []
        for case_id in split.validation:
            truth = truth_of(cases[case_id])
            paths = [_mask(folder, case_id, truth) for folder in folders.values()]
            if not all(path.exists() and case_id in known for path, known in zip(paths, measured, strict=True)):
                models = models or [load([finished[n].runs[fold].checkpoint_final], device=device) for n in names]
                opened = [store.open(case_id) for store in stores]
                masks, meters = with_retreat(models, partial(_predict, cases=opened, groups=groups), case_id)
                labels = models[0].plan.labels
                for path, indices, meter, known in zip(paths, masks, meters, measured, strict=True):
                    known[case_id] = meter.features()
                    if not path.exists():
                        write_mask(path, labels.to_values(labels.without_border(indices)), like=truth)
                for folder, known in zip(folders.values(), measured, strict=True):
                    write_measured(folder, known)
            done += 1
            progress("predict held-out cases together", done, total)


def _predict(
    models: Sequence[Model], cases: Sequence[StoredCase], groups: Sequence[Sequence[int]]
) -> tuple[list[np.ndarray], list[ReliabilityMeter]]:
    """What each group of these models says of a case, and what was measured of it."""
    labels = models[0].plan.labels
    alone = [ReliabilityMeter(labels) for _ in models]  # each network runs once, whatever groups it is a member of
    together = [ReliabilityMeter(labels) for _ in groups]
    members = [
        restorable_logits(model, case, meter=meter) for model, case, meter in zip(models, cases, alone, strict=True)
    ]
    masks = combine_each(members, groups, decision=Decision.by(labels), meters=together)
    for meter, group in zip(together, groups, strict=True):
        for member in group:
            meter.flips.include(alone[member].flips)
    return masks, together


def _store(dataset: Dataset, workspace: Workspace, one: CrossValidated, progress: Progress) -> CaseStore:
    """The preprocessed cases of a configuration; those that are missing are made."""
    configuration = one.plan.configuration(one.name)
    return CaseStore(prepare(dataset, workspace, one.plan, [configuration], progress=progress)[one.name])


def _mask(folder: EnsembleFolder, case_id: str, truth: Image) -> Path:
    return folder.validation / f"{case_id}{truth.stored.mask_suffix}"

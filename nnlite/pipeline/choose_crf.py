"""Try the dense CRF on all held-out cases, each predicted once more by the networks that never saw it.

Probabilities are not kept on disk, so this takes as long as predicting all held-out cases does, and the CRF on top; it
is done where ``nnlite select`` is asked for it. The masks of the accepted parameters stay, as what further rules are
chosen on.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from nnlite.data.annotated import annotated_structures
from nnlite.data.channels import in_units_of, read_channels
from nnlite.data.dataset import Case, Dataset
from nnlite.data.image import Image, write_mask
from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.data.split import Split
from nnlite.evaluation import metrics
from nnlite.evaluation.choose_crf import CrfTrial, crf_choices, judge_crf
from nnlite.inference.crf import CrfParameters
from nnlite.inference.crf_case import crf_indices, room_for_probabilities
from nnlite.inference.ensemble import predict_cases
from nnlite.inference.predict import Model
from nnlite.inference.retreat import with_retreat
from nnlite.pipeline.cross_validated import CrossValidated
from nnlite.pipeline.ensemble_held_out import truth_of
from nnlite.pipeline.load_model import load
from nnlite.pipeline.prepare_cases import prepare
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import NormalizedCase, normalize_case
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenCrf:
    """What was tried, and of the accepted one the parameters, its masks and their mean Dice; None where none was."""

    trials: tuple[CrfTrial, ...]
    parameters: CrfParameters | None = None
    masks: Path | None = None
    mean_dice: float | None = None


def choose_crf(
    dataset: Dataset,
    workspace: Workspace,
    finished: Mapping[str, CrossValidated],
    members: Sequence[str],
    folds: Mapping[str, Split],
    deciding: Sequence[str],
    *,
    device: torch.device,
    progress: Progress = silent,
) -> ChosenCrf:
    """Try a few CRFs on what these configurations together say of the held-out cases.

    ``deciding`` are the labels that some truth holds.
    """
    chosen = [finished[name] for name in members]
    stores = [_store(dataset, workspace, one, progress) for one in chosen]
    plan, configuration = chosen[0].plan, chosen[0].plan.configuration(chosen[0].name)
    cases = {case.id: case for case in dataset.cases}
    held_out = [cases[case_id] for split in folds.values() for case_id in split.validation]
    choices = choices_for(truth_of(held_out[0]), configuration.spacing_mm)
    shutil.rmtree(workspace.crf, ignore_errors=True)
    rows: list[list[np.ndarray]] = [[] for _ in range(len(choices) + 1)]
    done, total = 0, len(held_out)
    columns = [plan.labels.structures.index(name) for name in deciding]
    for fold, split in folds.items():
        models = [load([one.runs[fold].checkpoint_final], device=device) for one in chosen]
        for case_id in split.validation:
            opened = [store.open(case_id) for store in stores]
            masks = _masks(cases[case_id], models, opened, choices, device)
            for number, (mask, table) in enumerate(zip(masks, rows, strict=True)):
                table.append(_dice(cases[case_id], mask, plan.labels)[columns])
                if number:
                    _write(workspace.crf / str(number), cases[case_id], mask, plan.labels)
            done += 1
            progress("try the CRF on held-out cases", done, total)
    before, *after = map(np.stack, rows)
    trials = judge_crf(choices, before, after, deciding)
    return _kept(workspace, trials)


def choices_for(truth: Image, spacing_mm: Sequence[float]) -> tuple[CrfParameters, ...]:
    """The CRFs to try on images like that of this mask, for a network that works at this spacing.

    Distances are told in pixels where pictures state no size.
    """
    choices = crf_choices(spacing_mm)
    if truth.planar and set(spacing_mm) == {1.0}:
        return tuple(replace(one, unit="pixels") for one in choices)
    return choices


def read_normalized(case: Case, model: Model) -> NormalizedCase:
    """The image of a case as the CRF compares its voxels: cropped and normalised, not resampled."""
    plan, configuration = model.plan, model.configuration
    given = read_channels(case.images, reference=plan.reference)
    image = in_units_of(given, configuration.spacing_mm, sized=plan.sized_images)
    return normalize_case(case.id, image.array, image.geometry.spacing_mm, plan, configuration)


def _masks(
    case: Case,
    models: Sequence[Model],
    opened: Sequence[StoredCase],
    choices: Sequence[CrfParameters],
    device: torch.device,
) -> list[np.ndarray]:
    """Label indices of a held-out case without a CRF, and with each of these."""
    first = models[0]
    labels = first.plan.labels
    volume = room_for_probabilities(case.id, opened[0].restoration.shape, Decision.by(labels))

    def predicted(lighter: Sequence[Model]) -> np.ndarray:
        return predict_cases(lighter, opened, keep_probabilities=volume)  # each try writes all of it anew

    indices = with_retreat(models, predicted, case.id)
    normalized = read_normalized(case, first)
    return [
        labels.without_border(indices),
        *(
            crf_indices(normalized, volume.array, one, first.plan, first.configuration, device=device)
            for one in choices
        ),
    ]


def _dice(case: Case, mask: np.ndarray, labels: Labels) -> np.ndarray:
    """Dice (structures,) of a held-out case; NaN where both masks are empty, or nobody drew the structure."""
    histogram = metrics.joint_histogram(labels.to_indices(truth_of(case).array[0]), mask, labels.index_count)
    dice = metrics.dice(*metrics.overlap_of(histogram, labels.members, ignore=labels.ignore_index))
    annotated = annotated_structures(labels, case.annotated)
    return dice if annotated is None else np.where(annotated, dice, np.nan)


def _write(folder: Path, case: Case, mask: np.ndarray, labels: Labels) -> None:
    truth = truth_of(case)
    write_mask(folder / f"{case.id}{truth.stored.mask_suffix}", labels.to_values(mask), like=truth)


def _kept(workspace: Workspace, trials: tuple[CrfTrial, ...]) -> ChosenCrf:
    """The accepted trial with its masks; those of the others go."""
    accepted = next((number for number, trial in enumerate(trials, start=1) if trial.accepted), None)
    for number in range(1, len(trials) + 1):
        if number != accepted:
            shutil.rmtree(workspace.crf / str(number), ignore_errors=True)
    if accepted is None:
        shutil.rmtree(workspace.crf, ignore_errors=True)
        return ChosenCrf(trials=trials)
    trial = trials[accepted - 1]
    return ChosenCrf(
        trials=trials,
        parameters=trial.parameters,
        masks=workspace.crf / str(accepted),
        mean_dice=trial.mean_dice_after,
    )


def _store(dataset: Dataset, workspace: Workspace, one: CrossValidated, progress: Progress) -> CaseStore:
    """The preprocessed cases of a configuration; those that are missing are made."""
    configuration = one.plan.configuration(one.name)
    return CaseStore(prepare(dataset, workspace, one.plan, [configuration], progress=progress)[one.name])

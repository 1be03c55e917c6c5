"""Train the folds of a configuration, then predict and score the cases that each fold held out."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from nnlite.data.dataset import Dataset
from nnlite.data.faults import LISTED_CASES
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record, record, write_record
from nnlite.data.split import Split, Splits
from nnlite.errors import UsageError, WorkspaceError
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.held_out import score_held_out
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset, read_plan
from nnlite.pipeline.prepare_cases import prepare
from nnlite.planning.planner import Plan
from nnlite.preprocessing.store import CaseStore
from nnlite.training.checkpoint import Checkpoint
from nnlite.training.config import TrainConfig, default_config, with_length
from nnlite.training.curves import EpochRecord, read_log
from nnlite.training.train import TrainFiles
from nnlite.training.train import train as train_network
from nnlite.workspace import RunFolder, Workspace

ALL = "all"  # the fold that holds nothing out

logger = logging.getLogger(__name__)


@record
class RunConfig:
    """What a training was asked for, and what it ran on."""

    plan: Plan
    configuration: str
    fold: str
    train: TrainConfig
    device: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """A finished fold. ``scores`` and ``mean_dice`` are None where nothing was held out.

    ``mean_dice`` is the mean over foreground labels of the mean over held-out cases. ``skipped`` says that the fold had
    been finished before and was left as it was.
    """

    configuration: str
    fold: str
    folder: Path
    scores: Path | None
    mean_dice: float | None
    training_s: float
    epochs: int
    skipped: bool


def train(
    dataset: Path,
    configuration: str,
    folds: Sequence[str],
    *,
    work: Path = DEFAULT_WORK,
    epochs: int | None = None,
    iterations: int | None = None,
    time_budget_s: float | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    transforms: Sequence[Callable[..., dict]] = (),
    progress: Progress = silent,
    on_epoch: Callable[[EpochRecord], None] = lambda epoch: None,
) -> tuple[TrainResult, ...]:
    """Train ``configuration`` on these folds, one after the other, and score the cases that each holds out.

    Cases are preprocessed first where that is missing. A finished fold is left as it is. An unfinished one is an error
    unless ``resume`` is set, which goes on after its last finished epoch. ``time_budget_s`` is the time that each
    fold's training takes; predicting the held-out cases comes on top. ``transforms`` are batchgenerators transforms of
    the caller's own, run on every training patch before nnlite's augmentation.
    """
    found, workspace = locate_dataset(dataset, work)
    plan = read_plan(workspace)
    planned = plan.configuration(configuration)  # a misspelt name is refused before hours of training
    splits = read_record(workspace.splits, Splits)
    split_of = {fold: _split(splits, fold, found) for fold in folds}
    target = torch.device(device_name(device))
    asked = default_config(target, seed=seed)
    if plan.device == target.type:
        asked = with_length(asked, planned.epochs, planned.iterations, None)
    else:
        logger.warning(
            "%s was planned for %s and is trained on %s: expect slow steps or a small network; "
            "plan again with --device %s",
            plan.dataset,
            plan.device,
            target.type,
            target.type,
        )
    asked = with_length(asked, epochs, iterations, time_budget_s)
    learn = partial(train_network, device=target, transforms=transforms, on_epoch=on_epoch)
    results = []
    for fold in folds:
        run = workspace.run(configuration, fold)
        if not is_finished(run):
            job = _job(run, plan, configuration, fold, asked, target, resume=resume)
            if resume:  # a training can be made longer or shorter on the way
                job = replace(job, train=with_length(job.train, epochs, iterations, time_budget_s))
            try:
                _train_fold(found, workspace, run, job, split_of[fold], learn, target, progress)
            except WorkspaceError as error:  # a full disk, say
                if resume or not run.config.exists():
                    raise
                raise WorkspaceError(f"{error}; {configuration} {fold} was begun, so add --resume to go on") from error
            results.append(_result(run, skipped=False))
        else:
            results.append(_result(run, skipped=True))
    return tuple(results)


def is_finished(run: RunFolder) -> bool:
    """Whether a training has come to its end and its held-out cases, if there are any, are scored."""
    return run.checkpoint_final.exists() and (run.summary.exists() or run.fold == ALL)


def _job(
    run: RunFolder,
    plan: Plan,
    configuration: str,
    fold: str,
    asked: TrainConfig,
    device: torch.device,
    *,
    resume: bool,
) -> RunConfig:
    """What to do in a run's folder: what it was begun for, if it was begun, else what is asked for."""
    if run.config.exists():
        if not resume:
            raise WorkspaceError(
                f"{configuration} {fold} was begun and is not finished: add --resume to go on with it, "
                f"or delete {run.folder} to begin anew"
            )
        return read_record(run.config, RunConfig)
    packages = ("nnlite", "torch", "numpy")
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return RunConfig(
        plan=plan, configuration=configuration, fold=fold, train=asked, device=device.type, versions=versions
    )


def _train_fold(
    dataset: Dataset,
    workspace: Workspace,
    run: RunFolder,
    job: RunConfig,
    split: Split,
    learn: Callable[..., Checkpoint],
    device: torch.device,
    progress: Progress,
) -> None:
    """Preprocess what is missing, ``learn`` unless that is done, then score what was held out."""
    configuration = job.plan.configuration(job.configuration)
    prepare(dataset, workspace, job.plan, [configuration], progress=progress)
    store = CaseStore(workspace.cases(job.configuration))
    held_out = {case_id: store.open(case_id) for case_id in split.validation}
    write_record(run.config, job)
    if not run.checkpoint_final.exists():
        learn(
            job.plan,
            configuration,
            job.train,
            fold=job.fold,
            training_cases={case_id: store.open(case_id) for case_id in split.train},
            validation_cases=held_out,
            files=TrainFiles(
                log=run.log,
                plot=run.plot,
                best=run.checkpoint_best,
                last=run.checkpoint_last,
                final=run.checkpoint_final,
            ),
            resume=run.checkpoint_last.exists(),
        )
    if held_out:
        cases = [case for case in dataset.cases if case.id in held_out]
        score_held_out(run, cases, held_out, device=device, progress=progress)


def _split(splits: Splits, fold: str, dataset: Dataset) -> Split:
    """The cases of a fold; ``UsageError`` names the folds there are."""
    ids = {case.id for case in dataset.cases}
    by_name = {f"fold{number}": split for number, split in enumerate(splits.folds)}
    by_name[ALL] = Split(train=tuple(sorted(ids)), validation=())
    if fold not in by_name:
        raise UsageError(f'{dataset.name} has no fold "{fold}"; its folds are {", ".join(by_name)}')
    split = by_name[fold]
    if missing := sorted({*split.train, *split.validation} - ids):
        raise WorkspaceError(
            f"{fold} needs cases that are no longer in the dataset "
            f"({', '.join(missing[:LISTED_CASES])}{', ..' * (len(missing) > LISTED_CASES)}); "
            "put them back, or run nnlite plan again"
        )
    return split


def _result(run: RunFolder, *, skipped: bool) -> TrainResult:
    epochs = read_log(run.log)
    scored = run.summary.exists()
    return TrainResult(
        configuration=run.configuration,
        fold=run.fold,
        folder=run.folder,
        scores=run.scores if scored else None,
        mean_dice=read_record(run.summary, Summary).foreground["dice"] if scored else None,
        training_s=epochs[-1].elapsed_s if epochs else 0.0,
        epochs=len(epochs),
        skipped=skipped,
    )

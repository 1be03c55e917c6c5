"""Train the folds of a configuration, then predict and score the cases that each fold held out."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Unpack

import torch

from nnlite.data.dataset import Dataset
from nnlite.data.faults import LISTED_CASES
from nnlite.data.memory import keep_freed_memory
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record, write_record
from nnlite.data.split import Split, Splits
from nnlite.errors import MemoryShortError, UsageError, WorkspaceError
from nnlite.evaluation.instance_scores import InstanceSummary
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.dataset_source import refuse_other_cases
from nnlite.pipeline.held_out import score_held_out
from nnlite.pipeline.init_from import initialised, require_same_weights, weights_to_begin_with
from nnlite.pipeline.machine import gpu_memory_gib
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset, read_plan
from nnlite.pipeline.prepare_cases import prepare, store_name
from nnlite.pipeline.resume import as_begun, made_longer, reopen, require_sense
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.run_status import ALL, is_finished
from nnlite.pipeline.track_training import held_out_metrics, track_training, trackers_for
from nnlite.pipeline.train_together import announce, own_device
from nnlite.pipeline.training_lock import cases_in_use, locked
from nnlite.pipeline.variant_runs import first_of_variant, require_difference, settings_for
from nnlite.planning.planner import Configuration, Plan
from nnlite.planning.variants import parted
from nnlite.preprocessing.store import CaseStore
from nnlite.training.augmentation.augmentation import require_suited
from nnlite.training.choices import TrainChoices, with_choices
from nnlite.training.config import TrainConfig, default_config, with_length
from nnlite.training.curves import EpochRecord, read_log
from nnlite.training.initial_weights import InitialWeights
from nnlite.training.loss import Loss
from nnlite.training.ranks import ALONE, Ranks
from nnlite.training.target_maps import BORDER_WEIGHTS
from nnlite.training.tracking import Tracker
from nnlite.training.train import TrainFiles
from nnlite.training.train import train as train_network
from nnlite.workspace import RunFolder, Workspace

EVERY_FOLD = "folds"  # a whole round of cross-validation
LESS_MEMORY = 0.6  # of a GPU's, to plan for where its network did not fit even sample by sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """A finished fold. ``scores`` and ``mean_dice`` are None where nothing was held out.

    ``mean_dice`` is the mean over foreground labels of the mean over held-out cases. ``skipped`` says that the fold had
    been finished before and was left as it was; ``resumed_epochs`` is how many of its epochs an earlier sitting ran.
    ``instances`` are scores of single objects, None where they are not told apart.
    """

    configuration: str
    fold: str
    folder: Path
    scores: Path | None
    mean_dice: float | None
    training_s: float
    epochs: int
    skipped: bool
    resumed_epochs: int = 0
    instances: InstanceSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sitting:
    """What the folds of one call of ``train`` have in common."""

    dataset: Dataset
    workspace: Workspace
    device: torch.device
    ranks: Ranks
    transforms: Sequence[Callable[..., dict]]
    trackers: Sequence[Tracker]
    progress: Progress
    on_epoch: Callable[[EpochRecord], None]
    stop: Callable[[], bool]


def fold_names(dataset: Path, folds: Sequence[str], *, work: Path = DEFAULT_WORK) -> tuple[str, ...]:
    """The folds that these words mean, each once: "folds" is a whole round; ``UsageError`` if one does not exist."""
    found, workspace = locate_dataset(dataset, work)
    read_plan(workspace)  # where there is none, its message tells more than that of the splits
    return _named(folds, read_record(workspace.splits, Splits), found)


def train(
    dataset: Path,
    configuration: str,
    folds: Sequence[str],
    *,
    work: Path = DEFAULT_WORK,
    epochs: int | None = None,
    iterations: int | None = None,
    time_budget_s: float | None = None,
    seed: int | None = None,
    resume: bool = False,
    device: str = "auto",
    ranks: Ranks = ALONE,
    transforms: Sequence[Callable[..., dict]] = (),
    track: Sequence[str | Tracker] = (),
    init_from: Path | None = None,
    on_init: Callable[[InitialWeights], None] = lambda initial: None,
    progress: Progress = silent,
    on_epoch: Callable[[EpochRecord], None] = lambda epoch: None,
    stop: Callable[[], bool] = lambda: False,
    **choices: Unpack[TrainChoices],
) -> tuple[TrainResult, ...]:
    """Train ``configuration`` on these folds ("folds": all of them), one after the other; score what each holds out.

    Cases are preprocessed first where that is missing. A finished fold is left as it is, unless ``resume`` and a length
    make it longer. An unfinished one goes on where its state was saved, with what it was begun with; another length is
    an error there, unless ``resume`` has it take the place of the old one. Another seed, choice or ``init_from`` than a
    fold was begun with is an error for both.
    ``time_budget_s`` is the time that each fold's training takes; predicting the held-out cases comes on top. ``seed``
    is 0 by default.
    ``choices`` are loss, optimiser, schedule and others of the fields of ``TrainConfig``, see ``TrainChoices``.
    ``transforms`` are batchgenerators transforms of the caller's own, run on every training patch before nnlite's
    augmentation. ``track`` says who is told of every epoch and of the scores: "tensorboard", "mlflow", "wandb", or
    ``Tracker``s of the caller's own. ``init_from`` is a model whose weights a new training begins with, where name and
    shape agree; ``on_init`` is told which. Further folds of a variant take settings and model from its first.
    ``stop`` is asked again and again; when it says so, what is under way is finished and saved, and ``StoppedError``
    raised. Of several processes the one that leads calls this with all ``ranks``; the others ``follow``.
    """
    trackers = trackers_for(track)  # a package that is missing is told of before hours of training
    found, workspace = locate_dataset(dataset, work)
    plan = read_plan(workspace, parted(configuration)[1])
    planned = plan.configuration(configuration)  # a misspelt name is refused before hours of training
    splits = read_record(workspace.splits, Splits)
    names = _named(folds, splits, found)
    if not all(is_finished(workspace.run(configuration, fold)) for fold in names):
        refuse_other_cases(found, workspace, parted(configuration)[1])
    split_of = {fold: _split(splits, fold, found) for fold in names}
    ranks.share(planned.batch_size)  # too many processes are refused before anything is read
    keep_freed_memory()
    target = own_device(device, ranks)
    defaults = _defaults(plan, planned, target)
    if first := first_of_variant(workspace, configuration):
        defaults = first.train
    sitting = _Sitting(
        dataset=found,
        workspace=workspace,
        device=target,
        ranks=ranks,
        transforms=transforms,
        trackers=trackers,
        progress=progress,
        on_epoch=on_epoch,
        stop=stop,
    )

    def as_asked(config: TrainConfig) -> TrainConfig:
        config = with_length(config, epochs, iterations, time_budget_s)
        config = with_choices(config, choices)
        return config if seed is None else replace(config, seed=seed)

    asked_otherwise = as_asked(defaults) != defaults or bool(transforms) or init_from is not None
    require_difference(workspace, configuration, asked_otherwise=asked_otherwise)
    results = []
    for fold in names:
        run = workspace.run(configuration, fold)
        if init_from is not None and run.config.exists():
            require_same_weights(run, init_from, work)
        longer = made_longer(run, as_asked, resume=resume)
        if is_finished(run) and not longer:
            results.append(_result(run, skipped=True))
            continue
        with locked(run):
            before = len(read_log(run.log))
            job = as_begun(run, as_asked, resume=resume, longer=longer)
            begun = job is not None
            if job is None:
                settings = as_asked(settings_for(split_of[fold], f"{configuration} {fold}", defaults))
                require_suited(settings.augmentation, plan, planned)  # before any case is preprocessed for it
                job = _new_job(plan, configuration, fold, settings, target)
                job = initialised(job, init_from, work, like=first.initial if first else None, told=on_init)
            require_sense(job, split_of[fold], begun=begun)
            _tell_of_touching_cells(job)
            if longer:
                reopen(run)
            with cases_in_use(workspace, store_name(workspace, job.plan, job.plan.configuration(configuration))):
                _train_fold(sitting, run, job, split_of[fold])
        results.append(_result(run, skipped=False, resumed_epochs=before))
    return tuple(results)


def _defaults(plan: Plan, configuration: Configuration, device: torch.device) -> TrainConfig:
    """How a configuration is trained where nothing else is asked for."""
    if plan.device == device.type:
        return with_length(default_config(device), configuration.epochs, configuration.iterations, None)
    logger.warning(
        "%s was planned for %s and is trained on %s: expect slow steps or a small network; plan again with --device %s",
        plan.dataset,
        plan.device,
        device.type,
        device.type,
    )
    return default_config(device)


def _tell_of_touching_cells(job: RunConfig) -> None:
    """Warn where border weights are asked for, and cells that touch are one in what is trained on."""
    labels = job.plan.labels
    if BORDER_WEIGHTS in Loss.named(job.train.loss).needs and labels.numbered and labels.border_index is None:
        logger.warning(
            "%s: --loss %s takes cells that touch as one, because no border was planned between those with numbers "
            "of their own; to tell them apart, plan with --instances border",
            job.plan.dataset,
            job.train.loss,
        )


def _new_job(plan: Plan, configuration: str, fold: str, asked: TrainConfig, device: torch.device) -> RunConfig:
    """What is asked for, and what it runs on."""
    packages = ("nnlite", "torch", "numpy")
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return RunConfig(
        plan=plan, configuration=configuration, fold=fold, train=asked, device=device.type, versions=versions
    )


def _train_fold(sitting: _Sitting, run: RunFolder, job: RunConfig, split: Split) -> None:
    """Preprocess what is missing, train unless that is done, then score what was held out."""
    dataset, workspace = sitting.dataset, sitting.workspace
    configuration = job.plan.configuration(job.configuration)
    folders = prepare(dataset, workspace, job.plan, [configuration], progress=sitting.progress, stop=sitting.stop)
    store = CaseStore(folders[job.configuration])
    held_out = {case_id: store.open(case_id) for case_id in split.validation}
    write_record(run.config, job)
    with track_training(sitting.trackers, workspace, run, job) as tracking:
        if not run.checkpoint_final.exists():
            resume = run.checkpoint_last.exists() or run.checkpoint_previous.exists()
            initial = {} if resume else weights_to_begin_with(job)
            announce(sitting.ranks, workspace, job, split)
            with _way_out_of_memory(sitting, run):
                train_network(
                    job.plan,
                    configuration,
                    job.train,
                    fold=job.fold,
                    training_cases={case_id: store.open(case_id) for case_id in split.train},
                    validation_cases=held_out,
                    files=_train_files(run),
                    device=sitting.device,
                    ranks=sitting.ranks,
                    resume=resume,
                    initial=initial,
                    transforms=sitting.transforms,
                    on_epoch=_one_after_the_other(tracking.epoch, sitting.on_epoch),
                    stop=sitting.stop,
                )
        if held_out:
            cases = [case for case in dataset.cases if case.id in held_out]
            score_held_out(run, cases, held_out, device=sitting.device, progress=sitting.progress, stop=sitting.stop)
        tracking.finish(held_out_metrics(run) if held_out else {})


@contextmanager
def _way_out_of_memory(sitting: _Sitting, run: RunFolder) -> Iterator[None]:
    """Add to the message that nothing fits the command that plans for less."""
    try:
        yield
    except MemoryShortError as error:
        workspace, variant = sitting.workspace, parted(run.configuration)[1]
        less = f" --gpu-memory {gpu_memory_gib() * LESS_MEMORY:.1f}" if sitting.device.type == "cuda" else ""
        planned_as = f" --as {variant}" if variant is not None and workspace.plan_of(variant).exists() else ""
        raise MemoryShortError(
            f"{error}; plan for less, with the other options that it was planned with, delete {run.folder}, and train "
            f"again: nnlite plan {sitting.dataset.root} --device {sitting.device.type}{less}{planned_as} "
            f"--work {workspace.root}"
        ) from error


def _train_files(run: RunFolder) -> TrainFiles:
    return TrainFiles(
        log=run.log,
        plot=run.plot,
        best=run.checkpoint_best,
        last=run.checkpoint_last,
        previous=run.checkpoint_previous,
        final=run.checkpoint_final,
    )


def _one_after_the_other(*calls: Callable[[EpochRecord], None]) -> Callable[[EpochRecord], None]:
    def call_all(epoch: EpochRecord) -> None:
        for call in calls:
            call(epoch)

    return call_all


def _named(folds: Sequence[str], splits: Splits, dataset: Dataset) -> tuple[str, ...]:
    """These folds, each once, with the whole round in place of its name; ``UsageError`` names those there are."""
    every = (*splits.names, ALL)
    if EVERY_FOLD in folds and not splits.folds:
        raise UsageError(f"{dataset.name} has no folds: {splits.reason or 'train it with the fold all'}")
    names = [name for fold in folds for name in (splits.names if fold == EVERY_FOLD else (fold,))]
    for name in names:
        if name not in every:
            raise UsageError(f'{dataset.name} has no fold "{name}"; its folds are {", ".join(every)}')
    return tuple(dict.fromkeys(names))


def _split(splits: Splits, fold: str, dataset: Dataset) -> Split:
    """The cases of a fold."""
    ids = {case.id for case in dataset.cases}
    everything = Split(train=tuple(sorted(ids)), validation=())
    split = everything if fold == ALL else splits.folds[splits.names.index(fold)]
    if missing := sorted({*split.train, *split.validation} - ids):
        raise WorkspaceError(
            f"{fold} needs cases that are no longer in the dataset "
            f"({', '.join(missing[:LISTED_CASES])}{', ..' * (len(missing) > LISTED_CASES)}); "
            "put them back, or run nnlite plan again"
        )
    return split


def _result(run: RunFolder, *, skipped: bool, resumed_epochs: int = 0) -> TrainResult:
    epochs = read_log(run.log)
    scored = run.summary.exists()
    return TrainResult(
        configuration=run.configuration,
        fold=run.fold,
        folder=run.folder,
        scores=run.scores if scored else None,
        mean_dice=read_record(run.summary, Summary).foreground["dice"] if scored else None,
        instances=read_record(run.instance_summary, InstanceSummary) if run.instance_summary.exists() else None,
        training_s=epochs[-1].elapsed_s if epochs else 0.0,
        epochs=len(epochs),
        skipped=skipped,
        resumed_epochs=resumed_epochs,
    )

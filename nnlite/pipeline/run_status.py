"""What is done, running and missing of a cross-validation, read from the files of its runs; loads no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnlite.data.dataset import Dataset
from nnlite.data.records import read_record
from nnlite.data.split import Splits
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.chosen_options import choice_options
from nnlite.pipeline.dataset_source import edited_cases, in_words, listed, other_cases
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset, read_plan
from nnlite.pipeline.process_lock import LockHolder
from nnlite.pipeline.training_lock import lock_holder
from nnlite.planning.planner import Configuration, Plan
from nnlite.training.curves import read_log
from nnlite.training.trackers import TRACKERS
from nnlite.training.tracking import TrackingState
from nnlite.workspace import RunFolder, Workspace

ALL = "all"  # the fold that holds nothing out
FIRST_TO_TRAIN = ("3d", "2d")  # of a plan of which nothing is trained yet

State = Literal["done", "running", "unfinished", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldStatus:
    """How far the training of a fold is: ``epoch`` of ``epochs`` are over, and ``eta_s`` is left where one is running.

    ``epochs`` is None until the first epoch is over, ``mean_dice`` until the held-out cases are scored, ``holder`` is
    the process that trains.
    """

    configuration: str
    fold: str
    state: State
    epoch: int
    epochs: int | None
    training_s: float
    eta_s: float | None
    mean_dice: float | None
    holder: LockHolder | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatus:
    """Every planned configuration and fold, what to know about the dataset, and the command to type next.

    ``next_command`` is None where all that is missing is running.
    """

    folds: tuple[FoldStatus, ...]
    notes: tuple[str, ...]
    next_command: tuple[str, ...] | None


def status(dataset: Path, *, work: Path = DEFAULT_WORK) -> DatasetStatus:
    """Look at all runs of a planned dataset; reads no image and changes nothing."""
    found, workspace = locate_dataset(dataset, work)
    plan = read_plan(workspace)
    splits = read_record(workspace.splits, Splits)
    begun = {(run.configuration, run.fold) for run in workspace.existing_runs()}
    planned = {(name, fold) for name in plan.configurations for fold in splits.names or (ALL,)}
    order = list(plan.configurations)
    pairs = sorted(begun | planned, key=lambda pair: (order.index(pair[0]) if pair[0] in order else len(order), pair))
    folds = tuple(fold_status(workspace.run(configuration, fold)) for configuration, fold in pairs)
    variants = (None, *workspace.planned_variants())
    notes = tuple(note for variant in variants for note in _changes(found, workspace, variant))
    changed = other_cases(found, workspace) is not None
    command = ("nnlite", "plan", str(dataset)) if changed else _next_command(dataset, workspace, plan, splits, folds)
    words = (*command, "--work", str(work)) if command and work != DEFAULT_WORK else command
    return DatasetStatus(folds=folds, notes=notes, next_command=words)


def fold_status(run: RunFolder) -> FoldStatus:
    """How far one training is."""
    holder, epochs = lock_holder(run), read_log(run.log)
    done, begun = is_finished(run), run.config.exists()
    state: State = "done" if done else "running" if holder else "unfinished" if begun else "missing"
    eta_s = None
    if state == "running" and epochs and not run.checkpoint_final.exists():
        eta_s = max(0.0, epochs[-1].eta_s - (time.time() - run.log.stat().st_mtime))
    return FoldStatus(
        configuration=run.configuration,
        fold=run.fold,
        state=state,
        epoch=len(epochs),
        epochs=epochs[-1].epochs if epochs else None,
        training_s=epochs[-1].elapsed_s if epochs else 0.0,
        eta_s=eta_s,
        mean_dice=read_record(run.summary, Summary).foreground["dice"] if run.summary.exists() else None,
        holder=holder,
    )


def is_finished(run: RunFolder) -> bool:
    """Whether a training has come to its end and its held-out cases, if there are any, are scored."""
    return run.checkpoint_final.exists() and (run.summary.exists() or run.fold == ALL)


def _changes(dataset: Dataset, workspace: Workspace, variant: str | None) -> Iterator[str]:
    """What is no longer as it was when the dataset, or a variant with a plan of its own, was planned."""
    planned, option = ("it", "") if variant is None else (f"the variant {variant}", f" --as {variant}")
    if (change := other_cases(dataset, workspace, variant)) is not None:
        yield f"the dataset has changed since {planned} was planned: {change}; or run nnlite plan{option} again"
    if edited := edited_cases(dataset, workspace, variant):
        yield f"{in_words(edited)} of another size or date than when {planned} was planned: {listed(edited)}"


def _next_command(
    dataset: Path, workspace: Workspace, plan: Plan, splits: Splits, folds: tuple[FoldStatus, ...]
) -> tuple[str, ...] | None:
    """First finish what was begun, then select, report and predict; where nothing was begun, the finest one is."""
    for name in plan.configurations:
        ours = {one.fold: one.state for one in folds if one.configuration == name}
        numbered = any(ours[fold] != "missing" for fold in splits.names)  # not only the fold all was trained
        wanted = ("unfinished", "missing") if numbered else ("unfinished",)
        left = [fold for fold, state in ours.items() if state in wanted]
        if left:
            round_left = numbered and left[-1] in splits.names and "running" not in ours.values()
            # an unfinished one first: the others may have been trained for another length
            pattern = min(
                (fold for fold in ours if ours[fold] != "missing"), key=lambda fold: ours[fold] != "unfinished"
            )
            options = length_options(workspace.run(name, pattern), plan.configurations[name])
            return ("nnlite", "train", str(dataset), name, *(["folds"] if round_left else left), *options)
    for one in folds:
        if one.configuration not in plan.configurations and one.state == "unfinished":  # goes on as it was begun
            return ("nnlite", "train", str(dataset), one.configuration, one.fold)
    if any(one.state == "running" for one in folds):
        return None
    done = {(one.configuration, one.fold) for one in folds if one.state == "done"}
    rounds = [name for name in plan.configurations if splits.names and all((name, f) in done for f in splits.names)]
    if rounds and not workspace.selection.exists():
        return ("nnlite", "select", str(dataset))
    if rounds and not workspace.report.exists():
        return ("nnlite", "report", str(dataset))
    if done:
        return ("nnlite", "predict", str(dataset), "IMAGES", "-o", "MASKS")
    first = next(name for name in (*FIRST_TO_TRAIN, *plan.configurations) if name in plan.configurations)
    return ("nnlite", "train", str(dataset), first, "folds" if splits.folds else ALL)


def length_options(run: RunFolder, configuration: Configuration | None) -> list[str]:
    """Length, seed and choices of a begun training where they are not the plan's, and its trackers.

    The other folds of its round are to have the same. Without a ``configuration`` the plan is the one that it followed.
    """
    if not run.config.exists():  # another process is about to begin it
        return []
    job = json.loads(run.config.read_text(encoding="utf-8"))  # as a record it would load torch
    asked = job["train"]
    if configuration is None:
        followed = job["plan"]["configurations"][job["configuration"]]
        epochs, iterations = followed["epochs"], followed["iterations"]
    else:
        epochs, iterations = configuration.epochs, configuration.iterations
    options = []
    if asked["time_budget_s"] is not None:
        options += ["--time-budget", f"{asked['time_budget_s']}".removesuffix(".0") + "s"]
    elif asked["epochs"] != epochs:
        options += ["--epochs", str(asked["epochs"])]
    if asked["iterations"] != iterations:
        options += ["--iterations", str(asked["iterations"])]
    if asked["seed"]:
        options += ["--seed", str(asked["seed"])]
    options += choice_options(job)
    if run.tracking.exists():
        told = read_record(run.tracking, TrackingState).trackers
        options += [word for name in TRACKERS if name in told for word in ("--track", name)]
    return options

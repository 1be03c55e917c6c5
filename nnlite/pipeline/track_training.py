"""What trackers are told of a training: its settings, and in the end the scores of the cases it held out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict

from nnlite.data.records import read_record
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.run_config import RunConfig
from nnlite.training.trackers import tracker_named
from nnlite.training.tracking import Setting, TrackedRun, Tracker, Tracking, tracked
from nnlite.workspace import RunFolder, Workspace

TRACKED_DECISIONS = ("spacing_mm", "patch_size", "batch_size", "normalization", "batch_dice", "previous_stage")


def trackers_for(wanted: Sequence[str | Tracker]) -> tuple[Tracker, ...]:
    """The trackers of these names, and those given as they are, each name once; ``UsageError`` if one cannot be had."""
    trackers = [tracker_named(one) if isinstance(one, str) else one for one in wanted]
    return tuple({tracker.name: tracker for tracker in trackers}.values())


def track_training(
    trackers: Sequence[Tracker], workspace: Workspace, run: RunFolder, job: RunConfig
) -> AbstractContextManager[Tracking]:
    """The tracking of one fold, begun and ended with the block."""
    about = TrackedRun(
        dataset=workspace.dataset,
        configuration=job.configuration,
        fold=job.fold,
        folder=workspace.tracking,
        settings=settings_of(job),
    )
    return tracked(trackers, about, labels=job.plan.labels.learned, log=run.log, state=run.tracking)


def settings_of(job: RunConfig) -> dict[str, Setting]:
    """What a run was asked for, flat, as trackers want it; several numbers are one text, "40x56x40"."""
    configuration = job.plan.configuration(job.configuration)
    decisions = {name: getattr(configuration, name) for name in TRACKED_DECISIONS}
    plan = {"planner": job.plan.planner, "preset": job.plan.preset, "architecture": configuration.topology.architecture}
    versions = {f"version/{name}": number for name, number in job.versions.items()}
    run = {"dataset": job.plan.dataset, "configuration": job.configuration, "fold": job.fold, "device": job.device}
    every = {**run, **plan, **decisions, **asdict(job.train), **versions}
    return {name: "x".join(map(str, value)) if isinstance(value, tuple) else value for name, value in every.items()}


def held_out_metrics(run: RunFolder) -> dict[str, float]:
    """The means of scores.json: "held_out/dice" and the like over all labels, "held_out_dice/liver" for each label."""
    summary = read_record(run.summary, Summary)
    over_all = {f"held_out/{name}": mean for name, mean in summary.foreground.items()}
    by_label = {f"held_out_dice/{label}": one.dice.mean for label, one in summary.labels.items()}
    return {name: mean for name, mean in {**over_all, **by_label}.items() if mean is not None}

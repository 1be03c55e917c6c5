"""The commands that make a workspace again, read from what its plan and its trainings were asked for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from nnlite.evaluation.report.contents import Command, Evidence
from nnlite.pipeline.plan_dataset import DEFAULT_WORK
from nnlite.pipeline.run_status import DatasetStatus, length_options
from nnlite.planning.planner import Plan
from nnlite.planning.topology import KERNEL
from nnlite.workspace import Workspace

LARGEST_ENSEMBLE = 2  # what nnlite select tries unless it is told otherwise
BY_HAND = "set by hand: "  # how the reason of such a decision begins


def commands(
    dataset: Path, workspace: Workspace, plan: Plan, status: DatasetStatus, evidence: Evidence | None
) -> tuple[Command, ...]:
    """What to type, in order. Only what was begun is there: a configuration that nobody trained is not."""
    work = () if workspace.root == DEFAULT_WORK else ("--work", str(workspace.root))

    def command(what: str, verb: str, *words: str) -> Command:
        return Command(line=shlex.join(["nnlite", verb, str(dataset), *words, *work]), what=what)

    lines = [command("checks every case and decides, with reasons", "plan", *_plan_options(plan))]
    for words in _trainings(workspace, plan, status):
        lines.append(command("trains, then predicts and scores what each fold holds out", "train", *words))
    if evidence is not None:
        largest = max(len(one.members) for one in evidence.candidates)
        alone = sum(len(one.members) == 1 for one in evidence.candidates) == 1
        most = () if alone or largest == LARGEST_ENSEMBLE else ("--most", str(largest))
        lines.append(command("chooses the model and its postprocessing", "select", *most))
        lines.append(command("segments new images with it", "predict", "IMAGES", "-o", "MASKS"))
    lines.append(command("makes this page", "report"))
    return tuple(lines)


def _trainings(workspace: Workspace, plan: Plan, status: DatasetStatus) -> Iterator[tuple[str, ...]]:
    """Configuration, folds and length of all trainings that were begun; folds of one length go together."""
    begun = [fold for fold in status.folds if fold.state != "missing"]
    for name in dict.fromkeys(fold.configuration for fold in begun):
        planned = plan.configurations.get(name)  # None for a run of an earlier plan
        together: dict[tuple[str, ...], list[str]] = {}
        for fold in (fold.fold for fold in begun if fold.configuration == name):
            options = length_options(workspace.run(name, fold), planned) if planned else []
            together.setdefault(tuple(options), []).append(fold)
        every = [fold.fold for fold in status.folds if fold.configuration == name]
        for lengths, folds in together.items():
            yield (name, *(["folds"] if folds == every else folds), *lengths)


def _plan_options(plan: Plan) -> list[str]:
    """Device, memory, preset, network and single decisions that the plan was made with."""
    options = ["--device", plan.device]
    if plan.memory_gib is not None:
        options += ["--gpu-memory", f"{plan.memory_gib:g}"]
    if plan.preset != "nnlite":
        options += ["--preset", plan.preset]
    if plan.network.architecture not in ("unet", "resenc"):  # --residual says the latter
        options += ["--architecture", plan.network.architecture]
    if plan.network.kernel != KERNEL:
        options += ["--kernel", str(plan.network.kernel)]
    if plan.network.checkpointing:
        options.append("--checkpointing")
    if plan.network.fusion != "early":
        options += ["--fusion", plan.network.fusion]
    if plan.network.stem != "plain":
        options += ["--stem", plan.network.stem]
    if plan.planner != "plain":
        options += ["--residual", plan.planner.removeprefix("residual-")]
    reasons = [reason for one in plan.configurations.values() for reason in one.reasons.values()]
    by_hand = dict.fromkeys(reason.removeprefix(BY_HAND) for reason in reasons if reason.startswith(BY_HAND))
    return [*options, *(word for text in by_hand for word in ("--set", text))]

"""The commands that make a workspace again, read from what its plans and its trainings were asked for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from nnlite.data.split import Splits
from nnlite.evaluation.report.contents import Command, Evidence
from nnlite.pipeline.instance_request import BORDER_PX, RIM_PX
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, read_plan
from nnlite.pipeline.run_status import DatasetStatus, length_options
from nnlite.planning.hu_channels import as_typed
from nnlite.planning.planner import Plan
from nnlite.planning.topology import KERNEL
from nnlite.planning.variants import as_variant, parted
from nnlite.workspace import Workspace

LARGEST_ENSEMBLE = 2  # what nnlite select tries unless it is told otherwise
BY_HAND = "set by hand: "  # how the reason of such a decision begins

Plans = Mapping[str | None, Plan]
"""The plan of the dataset (None), and by name those of variants that have one of their own."""


def commands(
    dataset: Path, workspace: Workspace, plan: Plan, splits: Splits, status: DatasetStatus, evidence: Evidence | None
) -> tuple[Command, ...]:
    """What to type, in order. Only what was begun is there: a configuration that nobody trained is not."""
    work = () if workspace.root == DEFAULT_WORK else ("--work", str(workspace.root))
    plans: Plans = {
        variant: plan if variant is None else read_plan(workspace, variant)
        for variant in (None, *workspace.planned_variants())
    }

    def command(what: str, verb: str, *words: str) -> Command:
        return Command(line=shlex.join(["nnlite", verb, str(dataset), *words, *work]), what=what)

    own_folds = ("--splits", str(workspace.splits)) if splits.rule == "file" else ()
    lines = [command("checks every case and decides, with reasons", "plan", *_plan_options(plan), *own_folds)]
    for variant, other in plans.items():
        if variant is not None:
            asked = [*_plan_options(other), "--as", variant]
            lines.append(command(f"decides otherwise for the variant {variant}", "plan", *asked))
    for words in _trainings(workspace, plans, splits, status):
        lines.append(command("trains, then predicts and scores what each fold holds out", "train", *words))
    if evidence is not None:
        options = _select_options(evidence, splits, status)
        lines.append(command("chooses the model and its postprocessing", "select", *options))
        lines.append(command("segments new images with it", "predict", "IMAGES", "-o", "MASKS"))
    lines.append(command("makes this page", "report"))
    return tuple(lines)


def _trainings(workspace: Workspace, plans: Plans, splits: Splits, status: DatasetStatus) -> Iterator[tuple[str, ...]]:
    """Configuration, folds and length of all trainings that were begun; folds of one length go together."""
    begun = [fold for fold in status.folds if fold.state != "missing"]
    for name in dict.fromkeys(fold.configuration for fold in begun):
        variant = parted(name)[1]
        plan = plans.get(variant) or as_variant(plans[None], variant)
        planned = plan.configurations.get(name)  # None for a run of an earlier plan
        together: dict[tuple[str, ...], list[str]] = {}
        for fold in (fold.fold for fold in begun if fold.configuration == name):
            together.setdefault(tuple(length_options(workspace.run(name, fold), planned)), []).append(fold)
        for lengths, folds in together.items():
            yield (name, *_in_words(folds, splits), *lengths)


def _in_words(folds: list[str], splits: Splits) -> list[str]:
    """These folds, and a whole round of them in one word."""
    if not splits.names or not set(splits.names) <= set(folds):
        return folds
    return ["folds", *(fold for fold in folds if fold not in splits.names)]


def _select_options(evidence: Evidence, splits: Splits, status: DatasetStatus) -> list[str]:
    """Configurations, where others are finished, too; the size of ensembles, and whether a CRF was tried."""
    names = list(dict.fromkeys(name for one in evidence.candidates for name in one.members))
    done = {(fold.configuration, fold.fold) for fold in status.folds if fold.state == "done"}
    finished = {name for name, _ in done if all((name, fold) in done for fold in splits.names)}
    options = names if finished - set(names) else []
    largest = max(len(one.members) for one in evidence.candidates)
    if len(names) > 1 and largest != LARGEST_ENSEMBLE:
        options = [*options, "--most", str(largest)]
    return [*options, "--crf"] if evidence.crf_trials else options


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
    options += [*_channel_options(plan), *_label_options(plan)]
    reasons = [reason for one in plan.configurations.values() for reason in one.reasons.values()]
    by_hand = dict.fromkeys(reason.removeprefix(BY_HAND) for reason in reasons if reason.startswith(BY_HAND))
    return [*options, *(word for text in by_hand for word in ("--set", text))]


def _channel_options(plan: Plan) -> list[str]:
    """On which grid channels come together, and which further ones are made of CT."""
    options = [] if plan.reference_channel is None else ["--resample-channels-to", plan.reference_channel]
    if windows := as_typed(plan.hu_channels, "window"):
        options += ["--hu-windows", windows]
    if masks := as_typed(plan.hu_channels, "mask"):
        options += ["--hu-masks", masks]
    return options


def _label_options(plan: Plan) -> list[str]:
    """How an atlas of the labels is used, and how their single objects come apart."""
    options = [] if plan.prior is None else ["--prior", plan.prior.use]
    instances = plan.labels.instances
    if instances is None:
        return [*options, "--instances", "none"] if "instances" in plan.reasons else options
    if not instances.border_px:
        return [*options, "--instances", "distance"]
    choice, usual = ("rim", RIM_PX) if instances.rim else ("border", BORDER_PX)
    options += ["--instances", choice]
    return options if instances.border_px == usual else [*options, "--border-width", str(instances.border_px)]

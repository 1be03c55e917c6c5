"""A folder in which nnU-Net v2 has trained a model, read as it is; nothing in it is executed.

nnU-Net writes RESULTS/DatasetNNN_X/TRAINER__PLANS__CONFIGURATION/ with dataset.json, plans.json and one folder of
checkpoints per fold. Pickles beside them (postprocessing.pkl) are never opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlite.errors import CheckpointError, PlanError, UsageError
from nnlite.interop.nnunet_plan import configuration_name, plan_from_nnunet, read_json, resolved_settings
from nnlite.interop.nnunet_weights import nnlite_weights, read_checkpoint
from nnlite.planning.planner import Plan
from nnlite.training.checkpoint import Checkpoint, ModelCard

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")  # nnU-Net predicts with the first
ALL = "all"
TRAINER = "nnUNetTrainer"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedFolder:
    """What a result folder holds: one configuration, by nnU-Net's name, and its folds, by nnlite's ("fold0", "all")."""

    folder: Path
    plans: dict[str, Any]
    dataset: dict[str, Any]
    configuration: str
    trainer: str
    checkpoints: dict[str, Path]
    notes: tuple[str, ...]


def find_trained(folder: Path) -> TrainedFolder:
    """Look a result folder over; CheckpointError says what is missing and which folder to give instead."""
    if not folder.is_dir():
        advice = "unzip it first" if folder.suffix == ".zip" else "give the folder that holds plans.json and fold_0"
        raise CheckpointError(f"{folder} is no folder; {advice}")
    if (folder / "plans.pkl").exists():
        raise CheckpointError(
            f"{folder} was trained by nnU-Net v1, whose models nnlite cannot read; it reads those of v2"
        )
    if missing := [name for name in ("plans.json", "dataset.json") if not (folder / name).exists()]:
        inside = sorted(path.parent.name for path in folder.glob("*/plans.json"))
        advice = f"; give one of the folders in it: {', '.join(inside)}" if inside else ""
        raise CheckpointError(f"{folder} is no result folder of nnU-Net v2: it has no {', no '.join(missing)}{advice}")
    checkpoints, notes = _checkpoints(folder)
    first = read_checkpoint(next(iter(checkpoints.values())))
    if first.trainer != TRAINER:
        notes.append(f"trained by {first.trainer}: its network is taken to be the one in plans.json")
    return TrainedFolder(
        folder=folder,
        plans=read_json(folder / "plans.json"),
        dataset=read_json(folder / "dataset.json"),
        configuration=first.configuration,
        trainer=first.trainer,
        checkpoints=checkpoints,
        notes=tuple(notes),
    )


def joint_plan(trained: Sequence[TrainedFolder]) -> Plan:
    """The one plan that all these folders follow.

    PlanError when they follow different ones or cannot be represented, UsageError when a configuration is given twice
    or the first stage of a cascade is missing.
    """
    names = [one.configuration for one in trained]
    if len(set(names)) < len(names):
        raise UsageError(f"{', '.join(names)}: one of them is given twice; put each model into a MODEL of its own")
    for one in trained:
        stage = resolved_settings(one.plans, one.configuration).get("previous_stage")
        if stage is not None and stage not in names:
            raise UsageError(
                f"{one.configuration} continues from {stage}; give the result folder of {stage} as well: "
                "nnlite import-nnunet CASCADE_FOLDER LOWRES_FOLDER -o MODEL"
            )
    plans = [plan_from_nnunet(one.plans, one.dataset, names) for one in trained]
    for one, plan in zip(trained, plans, strict=True):
        if plan != plans[0]:
            raise PlanError(
                f"{one.folder} follows other plans than {trained[0].folder}; put each of them into a MODEL of its own"
            )
    return plans[0]


def read_model(trained: TrainedFolder, fold: str, plan: Plan) -> Checkpoint:
    """The network of one fold as nnlite stores it; CheckpointError when its weights do not fit ``plan``."""
    path = trained.checkpoints[fold]
    checkpoint = read_checkpoint(path)
    if checkpoint.configuration != trained.configuration:
        raise CheckpointError(
            f"{path} was trained as {checkpoint.configuration}, the other folds beside it as "
            f"{trained.configuration}; they belong into different folders"
        )
    name = configuration_name(trained.plans, checkpoint.configuration)
    weights = nnlite_weights(checkpoint, plan, plan.configuration(name), path)
    try:
        card = ModelCard(
            plan=plan,
            configuration=name,
            fold=fold,
            epoch=checkpoint.epoch,
            mirror_axes=checkpoint.mirror_axes,
            trained_by="nnU-Net",
        )
    except ValueError as problem:
        raise CheckpointError(f"{path} does not fit its plans: {problem}") from problem
    return Checkpoint(card=card, weights=weights)


def _checkpoints(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The checkpoints to take over, and what to know about the choice."""
    for name in CHECKPOINTS:
        found = {path.parent.name.removeprefix("fold_"): path for path in sorted(folder.glob(f"fold_*/{name}"))}
        if found:
            break
    else:
        raise CheckpointError(
            f"{folder} has no fold_*/{' and no fold_*/'.join(CHECKPOINTS)}; is its training finished?"
        )
    notes = []
    if name != CHECKPOINTS[0]:
        notes.append(f"no training is finished: {name} is taken")
    elif begun := sorted(path.name for path in folder.glob("fold_*") if not (path / name).exists()):
        notes.append(f"left out, because the training is not finished: {', '.join(begun)}")
    if ALL in found and len(found) > 1:
        found.pop(ALL)
        notes.append("left out, as in nnU-Net: fold_all, because there are others")
    return {fold if fold == ALL else f"fold{fold}": path for fold, path in found.items()}, notes

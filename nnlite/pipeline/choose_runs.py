"""Which trained runs answer when a dataset is the model: those that were selected, else those of the best scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from nnlite.data.dataset import default_name, find_dataset
from nnlite.data.records import read_record
from nnlite.errors import CheckpointError, DatasetError, UsageError
from nnlite.evaluation.scores import Summary
from nnlite.inference.postprocess import Postprocessing
from nnlite.inference.predict import Model
from nnlite.pipeline.dataset_source import refuse_another_source
from nnlite.pipeline.load_model import load
from nnlite.pipeline.selection import Selection, read_selection
from nnlite.workspace import RunFolder, Workspace, locate_run


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenRuns:
    """The runs that answer, those of each configuration together, and the rules for their masks.

    ``selection`` is the file that says so, None where none does.
    """

    members: tuple[tuple[RunFolder, ...], ...]
    postprocessing: Postprocessing = field(default_factory=Postprocessing)
    selection: Path | None = None

    @property
    def configurations(self) -> tuple[str, ...]:
        """Names of the configurations, in the order of ``members``."""
        return tuple(runs[0].configuration for runs in self.members)

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds, the same for every configuration."""
        return tuple(run.fold for run in self.members[0])


def choose_runs(model: Path, work: Path, configuration: str | None = None, folds: Sequence[str] = ()) -> ChosenRuns:
    """The runs that ``model`` means: a dataset, its folder in the workspace, or the folder of one run.

    Of a dataset: what was selected; a ``configuration`` that is named; else the one with the highest mean Dice over
    its held-out cases; without postprocessing, unless an imported model brought some along. ``folds`` leave the others
    out.
    """
    run = RunFolder(folder=model)
    if run.config.exists():
        if configuration not in (None, run.configuration) or any(fold != run.fold for fold in folds):
            raise UsageError(
                f"{model} is the training {run.configuration} {run.fold} alone; give the dataset, "
                "or its folder in the workspace, to choose others with --config and --folds"
            )
        return ChosenRuns(members=((run,),))
    workspace = _workspace(model, work)
    trained = _finished(workspace)
    if configuration is None and (selection := read_selection(workspace)):
        return _selected(workspace, selection, trained, folds)
    name = configuration or max(trained, key=lambda name: _mean_dice(trained[name]))
    if name not in trained:
        raise UsageError(f'no fold of "{name}" is trained; trained are {", ".join(trained)}')
    return ChosenRuns(
        members=(_of_folds(name, trained[name], folds),), postprocessing=_brought_along(workspace.postprocessing(name))
    )


def finished_runs(model: Path, work: Path) -> dict[str, list[RunFolder]]:
    """All finished trainings of ``model``, by configuration; ``CheckpointError`` where there is none."""
    run = RunFolder(folder=model)
    return {run.configuration: [run]} if run.config.exists() else _finished(_workspace(model, work))


def load_models(
    chosen: ChosenRuns, *, device: torch.device, mirroring: bool, step: float, exact: bool = False
) -> tuple[Model, ...]:
    """A model of each configuration, its folds averaged."""
    return tuple(_load(runs, device=device, mirroring=mirroring, step=step, exact=exact) for runs in chosen.members)


def first_stage(run: RunFolder, stage: str) -> tuple[RunFolder, ...]:
    """The finished trainings that a cascade's ``run`` continues from; ``CheckpointError`` where there is none."""
    workspace, _ = locate_run(run.folder)
    first = [one for one in workspace.existing_runs() if one.configuration == stage and one.checkpoint_final.exists()]
    if not first:
        raise CheckpointError(
            f"{run.configuration} continues from {stage}, of which {workspace.folder} holds no finished "
            f"training; run nnlite train {workspace.dataset} {stage} folds --work {workspace.root}"
        )
    return tuple(first)


def _finished(workspace: Workspace) -> dict[str, list[RunFolder]]:
    trained: dict[str, list[RunFolder]] = {}
    for run in workspace.existing_runs():
        if run.checkpoint_final.exists():
            trained.setdefault(run.configuration, []).append(run)
    if not trained:
        raise CheckpointError(f"{workspace.folder} holds no finished training; run nnlite train first")
    return trained


def _brought_along(rules: Path) -> Postprocessing:
    """What was imported with a configuration, if anything was."""
    return read_record(rules, Postprocessing) if rules.exists() else Postprocessing()


def _selected(
    workspace: Workspace, selection: Selection, trained: dict[str, list[RunFolder]], folds: Sequence[str]
) -> ChosenRuns:
    """The selected configurations, with the folds that were compared unless ``folds`` names others."""
    wanted = folds or [run.fold for run in selection.runs if run.configuration == selection.members[0]]
    return ChosenRuns(
        members=tuple(_of_folds(name, trained.get(name, []), wanted) for name in selection.members),
        postprocessing=selection.postprocessing,
        selection=workspace.selection,
    )


def _of_folds(name: str, runs: Sequence[RunFolder], folds: Sequence[str]) -> tuple[RunFolder, ...]:
    """Those of a configuration's runs that are asked for; all where ``folds`` names none."""
    chosen = tuple(run for run in runs if not folds or run.fold in folds)
    if missing := sorted(set(folds) - {run.fold for run in chosen}):
        there = ", ".join(run.fold for run in runs)
        raise UsageError(f"{name} {', '.join(missing)} is not trained; trained are {there}")
    return chosen


def _workspace(model: Path, work: Path) -> Workspace:
    """The workspace of a dataset's folder, or of a dataset that is given by its folder in the workspace."""
    if (model / "plan.json").exists():
        return Workspace(root=model.resolve().parent, dataset=model.resolve().name)
    unnamed = Workspace(root=work, dataset=default_name(model))
    if not model.exists():
        if not unnamed.plan.exists():
            raise UsageError(
                f"there is no model {model}: it is neither a dataset nor the folder of a training, and {work} has no "
                f'dataset "{unnamed.dataset}"; give the dataset that was trained on, a file of nnlite export, or say '
                "with --work where the workspace lies"
            )
        return unnamed
    workspace = unnamed
    if not unnamed.plan.exists():
        try:
            workspace = Workspace(root=work, dataset=find_dataset(model, description=unnamed.description).name)
        except DatasetError as error:
            raise UsageError(
                f"{model} is no model: give the dataset that was trained on, its folder in the workspace, "
                "the folder of one training (WORK/DATASET/runs/CONFIG/FOLD), or a file of nnlite export"
            ) from error
    # a model trained on another dataset of this name must not be taken for this one's
    refuse_another_source(model if model.is_dir() else model.parent, workspace)
    return workspace


def _mean_dice(runs: Sequence[RunFolder]) -> float:
    """Mean Dice over the held-out cases of these runs; -1 where nothing was held out."""
    known = [dice for run in runs if (dice := _dice(run)) is not None]
    return sum(known) / len(known) if known else -1.0


def _dice(run: RunFolder) -> float | None:
    return read_record(run.summary, Summary).foreground["dice"] if run.summary.exists() else None


def _load(runs: Sequence[RunFolder], *, device: torch.device, mirroring: bool, step: float, exact: bool) -> Model:
    """The model of these runs, with its first stage where it is the second of a cascade."""
    model = load([run.checkpoint_final for run in runs], device=device, mirroring=mirroring, step=step, exact=exact)
    stage = model.configuration.previous_stage
    if stage is None:
        return model
    first = first_stage(runs[0], stage)
    return replace(model, previous=_load(first, device=device, mirroring=mirroring, step=step, exact=exact))

"""Which folds a plan is made with: the user's own, those that trainings already follow, or dealt afresh.

Folds that came from a file, or that something was trained with, are never replaced in silence: scores of folds that
were dealt differently must not be put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnlite.data.check import CheckReport
from nnlite.data.dataset import Dataset
from nnlite.data.records import read_record
from nnlite.data.split import FOLDS, Splits, make_splits
from nnlite.data.splits_file import coverage_faults, read_splits, require_fitting
from nnlite.errors import WorkspaceError
from nnlite.workspace import Workspace


def fixed_splits(dataset: Dataset, workspace: Workspace, file: Path | None) -> Splits | None:
    """The folds that are not for nnlite to decide, or None.

    They come from ``file`` now or earlier, with the dataset, or something was trained with them.

    Raises ``DatasetError`` if they do not fit the dataset, ``WorkspaceError`` if trainings follow others.
    """
    cases, groups = [case.id for case in dataset.cases], dataset.groups
    kept = read_record(workspace.splits, Splits) if workspace.splits.exists() else None
    trained = _trained(workspace)
    ways_out = f"delete their folders below {workspace.runs}, or choose another workspace with --work"
    own = read_splits(file) if file is not None else dataset.splits
    if own is not None and (file is not None or kept is None or kept.rule != "file"):
        source = file or dataset.root
        remedy = "correct the file" if file else f"correct them ({own.reason})"
        require_fitting(own, cases, groups, source=source, dataset=dataset.name, remedy=remedy)
        if trained and kept is not None and kept.folds != own.folds:
            raise WorkspaceError(
                f"{_listed(trained)} hold out other cases than the folds in {source}, so their scores do not belong "
                f"together; to use these folds, {ways_out}"
            )
        return own
    if kept is None:
        return None
    if kept.rule == "file":
        remedy = f"give folds that do with --splits, or delete {workspace.splits} to have them dealt"
        require_fitting(kept, cases, groups, source=workspace.splits, dataset=dataset.name, remedy=remedy)
        return kept
    if not trained:
        return None
    if faults := list(coverage_faults(kept, cases)):
        raise WorkspaceError(
            f"{dataset.name} has changed since {_listed(trained)} began: {'; '.join(faults)}. Scores of other folds "
            f"would not belong together: put the dataset back, or, to plan for it as it is, {ways_out}"
        )
    return kept


def decide_splits(
    report: CheckReport[Any], workspace: Workspace, fixed: Splits | None
) -> tuple[Splits, tuple[str, ...]]:
    """The folds to write, and what their user should know about them; ``fixed`` ones stay."""
    dataset = report.dataset
    present = report.foreground_labels()
    sites = {case.id: [f"site {case.site}"] for case in dataset.cases if case.site}
    held = {case.id: (*present.get(case.id, ()), *sites.get(case.id, ())) for case in dataset.cases}
    dealt = make_splits([case.id for case in dataset.cases], groups=dataset.groups, labels=held)
    if fixed is None:
        if workspace.splits.exists() and read_record(workspace.splits, Splits).folds != dealt.folds:
            return dealt, (f"folds dealt anew, in place of earlier ones: {dealt.reason}",)
        plain = dealt.rule == "shuffled" and len(dealt.folds) == FOLDS
        return dealt, () if plain else (f"folds: {dealt.reason}",)
    if fixed.rule in ("file", "dataset"):
        return fixed, (f"folds: {len(fixed.folds)}, {fixed.reason}",)
    if fixed.folds != dealt.folds:
        return fixed, (
            f"the folds stay as {_listed(_trained(workspace))} began with; they would now be dealt otherwise "
            f"({dealt.reason}): delete the runs and plan again to have that",
        )
    return fixed, ()


def _trained(workspace: Workspace) -> tuple[str, ...]:
    """Trainings that were begun and hold something out."""
    return tuple(f"{run.configuration} {run.fold}" for run in workspace.existing_runs() if run.fold != "all")


def _listed(runs: Sequence[str]) -> str:
    return ", ".join(runs)

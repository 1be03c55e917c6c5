"""Gather what a report tells from the files of a workspace: plan, logs, scores, selection, and cases to look at."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnlite.data.dataset import Dataset
from nnlite.data.image import NO_DEPTH_MM
from nnlite.data.progress import Progress
from nnlite.data.records import read_record
from nnlite.data.split import Splits
from nnlite.errors import CheckpointError
from nnlite.evaluation.cross_validation import name_of
from nnlite.evaluation.instance_scores import InstanceSummary, instance_summary
from nnlite.evaluation.reliability import FEWEST_CASES
from nnlite.evaluation.report.contents import (
    CaseFacts,
    Course,
    DatasetFacts,
    Evidence,
    Reliability,
    ReportContents,
    ScoredCandidate,
)
from nnlite.evaluation.scores import LabelScore, Scores, read_scores
from nnlite.pipeline.reliability import read_reliability
from nnlite.pipeline.report_cases import shown_cases
from nnlite.pipeline.report_commands import commands
from nnlite.pipeline.run_status import ALL, DatasetStatus, FoldStatus, status
from nnlite.pipeline.selection import Selection, read_selection
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.planner import Plan
from nnlite.training.curves import read_log
from nnlite.workspace import RunFolder, Workspace

LIBRARIES = ("torch", "numpy", "scipy", "SimpleITK")  # that results could depend on


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A dataset with its workspace, and what was read of it so far."""

    dataset: Dataset
    workspace: Workspace
    plan: Plan
    splits: Splits
    status: DatasetStatus


def gather(path: Path, dataset: Dataset, workspace: Workspace, plan: Plan, *, progress: Progress) -> ReportContents:
    """Everything a report can tell of a planned dataset; ``path`` is how the user called it."""
    found = _Found(
        dataset=dataset,
        workspace=workspace,
        plan=plan,
        splits=read_record(workspace.splits, Splits),
        status=status(path, work=workspace.root),
    )
    evidence = _evidence(workspace)
    reliability = _reliability(workspace, evidence)
    candidates, other_labels = _candidates(found, evidence)
    main = _main(candidates, evidence)
    shown, unreadable = shown_cases(dataset, workspace, plan, found.splits, main, progress=progress)
    return ReportContents(
        made=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}".strip(),
        versions={"nnlite": version("nnlite"), "python": platform.python_version(), "system": platform.platform()}
        | {library: version(library) for library in LIBRARIES},
        dataset=_dataset_facts(found),
        plan=plan,
        courses=tuple(_course(workspace.run(fold.configuration, fold.fold), fold) for fold in _begun(found.status)),
        candidates=candidates,
        shown_candidate=main.name if main else "",
        shown=shown,
        evidence=evidence,
        reliability=reliability,
        commands=commands(path, workspace, plan, found.splits, found.status, evidence),
        missing=(*_missing(found, evidence, reliability), *other_labels, *unreadable),
    )


def _dataset_facts(found: _Found) -> DatasetFacts:
    fingerprint = read_record(found.workspace.fingerprint, Fingerprint)
    labelled = sorted((case for case in found.dataset.cases if case.label is not None), key=lambda case: case.id)
    # the fingerprint has no ids: it is in their order, as long as they are the cases it was taken of
    known = len(labelled) == len(fingerprint.spacings_mm)
    fold_of = {
        case_id: name
        for name, split in zip(found.splits.names, found.splits.folds, strict=True)
        for case_id in split.validation
    }
    cases = tuple(
        CaseFacts(
            case_id=case.id,
            shape=fingerprint.shapes_after_crop[number] if known else None,
            spacing_mm=fingerprint.spacings_mm[number] if known else None,
            fold=fold_of.get(case.id, ""),
            group=case.group or "",
            site=case.site or "",
            annotated="" if case.annotated is None else ", ".join(case.annotated),
        )
        for number, case in enumerate(labelled)
    )
    return DatasetFacts(
        name=found.dataset.name,
        root=str(found.dataset.root),
        layout=found.dataset.layout,
        planar=all(spacing[0] == NO_DEPTH_MM for spacing in fingerprint.spacings_mm),
        fingerprint=fingerprint,
        cases=cases,
        folds=f"{len(found.splits.folds)} folds: {found.splits.reason or found.splits.rule}.",
    )


def _begun(status: DatasetStatus) -> Sequence[FoldStatus]:
    return [fold for fold in status.folds if fold.state != "missing"]


def _course(run: RunFolder, fold: FoldStatus) -> Course:
    config = _config(run)
    asked = config.get("train", {})
    budget = asked.get("time_budget_s")
    if not asked:
        length = ""
    elif budget is not None:
        length = f"{budget / 60:g} min, {asked['iterations']} steps per epoch"
    else:
        length = f"{asked['epochs']} epochs of {asked['iterations']} steps"
    return Course(
        configuration=run.configuration,
        fold=run.fold,
        state=fold.state,
        length=length,
        loss=asked.get("loss", ""),
        epochs=tuple(read_log(run.log)),
        mean_dice=fold.mean_dice,
        device=config.get("device", ""),
        versions=config.get("versions", {}),
    )


def _candidates(found: _Found, evidence: Evidence | None) -> tuple[tuple[ScoredCandidate, ...], tuple[str, ...]]:
    """Every configuration and ensemble with scores, in the order of the plan; and which are of other labels."""
    scored, faults = [], []
    for name in dict.fromkeys(fold.configuration for fold in found.status.folds):
        runs = [found.workspace.run(name, fold) for fold in found.splits.names]
        done = [run for run in runs if run.checkpoint_final.exists() and run.summary.exists()]
        ours = [run for run in done if _labels(run) == found.plan.labels.names]
        if len(ours) < len(done):
            others = "1 fold was" if len(done) - len(ours) == 1 else f"{len(done) - len(ours)} folds were"
            faults.append(f"{name}: {others} trained with other labels than the plan has now")
        if ours:
            rows = [row for run in ours for row in read_scores(run.scores, run.summary).rows]
            apart = instance_summary((run.instance_scores for run in ours), {row.case for row in rows})
            scored.append(_scored(name, rows, [run.fold for run in ours], found.plan, apart))
    for one in evidence.candidates if evidence and not evidence.outdated else ():
        folder = found.workspace.ensemble(one.members)
        if len(one.members) > 1 and folder.summary.exists():
            rows = list(read_scores(folder.scores, folder.summary).rows)
            scored.append(_scored(name_of(one.members), rows, found.splits.names, found.plan))
    return tuple(scored), tuple(faults)


def _scored(
    name: str,
    rows: Sequence[LabelScore],
    folds: Sequence[str],
    plan: Plan,
    instances: InstanceSummary | None = None,
) -> ScoredCandidate:
    scores = Scores(rows=tuple(rows), structures=plan.labels.structures)
    return ScoredCandidate(name=name, scores=scores, folds=tuple(folds), instances=instances)


def _main(candidates: Sequence[ScoredCandidate], evidence: Evidence | None) -> ScoredCandidate | None:
    """The selected candidate; where none is, the one with most cases scored, and of these the best."""
    if evidence is not None and not evidence.outdated:
        selected = [one for one in candidates if one.name == evidence.name]
        if selected:
            return selected[0]
    # a mean that is not a number (no label in any truth) is no better than any other
    return max(candidates, key=lambda one: (len(one.scores.cases), one.scores.mean_dice or 0.0), default=None)


def _evidence(workspace: Workspace) -> Evidence | None:
    """The selection as it lies there; where its trainings have changed since, that is said."""
    if not workspace.selection.exists():
        return None
    outdated = ""
    try:
        read_selection(workspace)
    except CheckpointError as error:
        outdated = str(error)
    selection = read_record(workspace.selection, Selection)
    return Evidence(
        name=selection.name,
        rules=selection.postprocessing.in_words(),
        cases=selection.cases,
        labels=selection.labels,
        mean_dice=selection.mean_dice,
        mean_dice_postprocessed=selection.mean_dice_postprocessed,
        candidates=selection.candidates,
        trials=selection.trials,
        crf_trials=selection.crf_trials,
        left_out=selection.left_out,
        remarks=selection.remarks,
        outdated=outdated,
    )


def _reliability(workspace: Workspace, evidence: Evidence | None) -> Reliability | None:
    """What is known of the reliability of the selected model; None where no label had cases enough for a fit."""
    if evidence is None or evidence.outdated:
        return None
    calibrations = read_record(workspace.selection, Selection).reliability
    return Reliability(rows=read_reliability(workspace), calibrations=calibrations) if calibrations else None


def _missing(found: _Found, evidence: Evidence | None, reliability: Reliability | None) -> list[str]:
    """What a whole report would have, in words: folds by configuration, then the selection."""
    told = [f"the dataset: {note}" for note in found.status.notes]
    for name in dict.fromkeys(fold.configuration for fold in found.status.folds):
        folds = [fold for fold in found.status.folds if fold.configuration == name]
        states = Counter(fold.state for fold in folds)
        if states["missing"] == len(folds):
            told.append(f"{name}: not trained")
        elif states["done"] < len(folds):
            open_folds = [fold for fold in folds if fold.state != "done" and fold.fold != ALL]
            told += [f"{name}: {', '.join(map(_state, open_folds))}"] if open_folds else []
    if evidence is None:
        told.append("no model is selected: run nnlite select when all folds of a configuration are finished")
    elif evidence.outdated:
        told.append(f"the selection is outdated: {evidence.outdated}")
    elif reliability is None:
        told.append(
            f"reliability: for a fit a label needs {FEWEST_CASES} held-out cases outside of each fold, and a selection "
            "by this version of nnlite"
        )
    return told


def _state(fold: FoldStatus) -> str:
    epochs = f", {fold.epoch} of {fold.epochs} epochs" if fold.epoch else ""
    return f"{fold.fold} {fold.state}{epochs}"


def _config(run: RunFolder) -> dict[str, Any]:
    """What a training was asked for, as plain JSON: as a record it would load torch."""
    if not run.config.exists():  # another process is about to begin it
        return {}
    content: dict[str, Any] = json.loads(run.config.read_text(encoding="utf-8"))
    return content


def _labels(run: RunFolder) -> tuple[str, ...]:
    return tuple(_config(run)["plan"]["labels"]["names"])

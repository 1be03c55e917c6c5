"""From cross-validation to a decision: which configuration or ensemble is the model, and with which postprocessing.

Single configurations are compared by the scores that their trainings left, ensembles by masks that are predicted here,
once. The decision and every number behind it are written to selection.json, which ``predict`` follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import torch

from nnlite.data.dataset import Case, Dataset
from nnlite.data.memory import keep_freed_memory
from nnlite.data.progress import Progress, silent
from nnlite.data.records import write_record
from nnlite.data.split import Split
from nnlite.errors import UsageError, WorkspaceError
from nnlite.evaluation.cross_validation import SCORE_AGAIN, TIE, Candidate, CandidateScore, compare, name_of
from nnlite.evaluation.scores import Scores
from nnlite.pipeline.appearance import require_appearance
from nnlite.pipeline.choose_crf import ChosenCrf, choose_crf
from nnlite.pipeline.choose_postprocessing import ChosenPostprocessing, choose_postprocessing, repaired_dice
from nnlite.pipeline.cross_validated import CrossValidated, cross_validated, held_out_by_fold, instance_remarks
from nnlite.pipeline.dataset_source import edited_cases, in_words, listed
from nnlite.pipeline.ensemble_held_out import Members, measure_ensemble, score_ensembles
from nnlite.pipeline.held_out import measure_held_out
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset, read_plan
from nnlite.pipeline.prepare_cases import prepare
from nnlite.pipeline.reliability import Measured, Reliability, judge, read_measured
from nnlite.pipeline.selection import Selection, trained_run, with_first_stage
from nnlite.pipeline.training_lock import cases_in_use, selecting
from nnlite.planning.cost import parameters_of_all_stages
from nnlite.planning.planner import Plan
from nnlite.planning.variants import parted
from nnlite.preprocessing.store import CaseStore
from nnlite.workspace import RunFolder, Workspace

LARGEST_ENSEMBLE = 2  # nnU-Net's: pairs; more members cost more time at every prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectResult:
    """The decision, and where it lies."""

    selection: Selection
    path: Path


def select(
    dataset: Path,
    *,
    work: Path = DEFAULT_WORK,
    only: Sequence[str] = (),
    most: int = LARGEST_ENSEMBLE,
    crf: bool = False,
    device: str = "auto",
    progress: Progress = silent,
) -> SelectResult:
    """Choose among all configurations whose every fold is finished, and all ensembles of up to ``most`` of them.

    ``crf`` also tries a dense CRF, which is selected where it helps; the held-out cases are predicted again for it.
    Variants are configurations, too. ``only`` names those to choose among; none are all. Nothing that was predicted
    before is predicted again, and another process that selects is waited for. ``WorkspaceError`` names what is missing
    where no configuration has all folds, ``DatasetError`` cases that have changed since the plan, or that there is
    nothing to choose by: no foreground in any truth, or in any prediction.
    """
    if most < 1:
        raise UsageError(f"ensembles of up to {most} configurations make no sense; name 1 or more")
    keep_freed_memory()
    target = torch.device(device_name(device))
    found, workspace = locate_dataset(dataset, work)
    plan = read_plan(workspace)
    with selecting(workspace), ExitStack() as marks:
        for name in plan.configurations:
            marks.enter_context(cases_in_use(workspace, name))
        return _select(found, workspace, plan, only, most, crf, target, progress)


def _select(
    found: Dataset,
    workspace: Workspace,
    plan: Plan,
    only: Sequence[str],
    most: int,
    crf: bool,
    target: torch.device,
    progress: Progress,
) -> SelectResult:
    """``select`` in a workspace where nobody else does."""
    folds = held_out_by_fold(workspace)
    held_out = _held_out_cases(found, folds)
    finished, left_out = cross_validated(workspace, plan, folds)
    finished, left_out = _named(only, finished, left_out)
    _refuse_edited_cases(found, workspace, {parted(one.name)[1] for one in finished})
    by_name = {one.name: one for one in finished}
    sizes = range(2, most + 1)
    ensembles = [
        members
        for size in sizes
        for members in combinations(by_name, size)
        if len({by_name[name].plan.labels for name in members}) == 1  # of variants not all may know the same border
    ]
    scores: dict[Members, Scores] = {(one.name,): one.scores for one in finished}
    scores |= score_ensembles(found, workspace, by_name, ensembles, folds, device=target, progress=progress)
    comparison = compare([_candidate(members, one, by_name) for members, one in scores.items()])
    chosen = comparison.candidates[0]
    folder_of = _validation_folders(workspace, by_name, chosen.members, folds).__getitem__
    drawn = ChosenCrf(trials=())
    if crf:
        deciding = comparison.labels
        drawn = choose_crf(found, workspace, by_name, chosen.members, folds, deciding, device=target, progress=progress)
    if (masks := drawn.masks) is not None:
        folder_of = dict.fromkeys((case.id for case in held_out), masks).__getitem__
    repaired = choose_postprocessing(held_out, folder_of, plan.labels, comparison.labels, progress=progress)
    _require_agreement(chosen, repaired, drawn.mean_dice)
    measured = _measured(found, workspace, by_name, chosen.members, folds, target, progress)
    rules = replace(repaired.postprocessing, crf=drawn.parameters)
    dice = {(row.case, row.label): row.dice for row in scores[chosen.members].rows}
    if rules.in_words():
        dice = repaired_dice(held_out, folder_of, plan.labels, rules, progress=progress)
    reliability, rows = judge(measured, dice, folds)
    require_appearance(found, workspace, progress=progress)
    selection = Selection(
        dataset=workspace.dataset,
        members=chosen.members,
        postprocessing=rules,
        cases=len(held_out),
        labels=comparison.labels,
        mean_dice=chosen.mean_dice,
        mean_dice_postprocessed=repaired.mean_dice if rules.in_words() else chosen.mean_dice,
        candidates=comparison.candidates,
        trials=repaired.trials,
        crf_trials=drawn.trials,
        left_out=left_out,
        remarks=(
            *comparison.remarks,
            *(remark for one in finished for remark in one.remarks),
            *instance_remarks(chosen.members, finished),
        ),
        runs=tuple(map(trained_run, _trainings(workspace, finished))),
        reliability=reliability,
    )
    write_record(workspace.reliability, Reliability(members=chosen.members, rows=rows))
    write_record(workspace.selection, selection)
    return SelectResult(selection=selection, path=workspace.selection)


def _trainings(workspace: Workspace, finished: Sequence[CrossValidated]) -> Iterable[RunFolder]:
    """The trainings that took part, each once: the first stage of a cascade may be a candidate of its own."""
    return dict.fromkeys(run for one in finished for run in with_first_stage(workspace, one.runs.values()))


def _named(
    only: Sequence[str], finished: list[CrossValidated], left_out: dict[str, str]
) -> tuple[list[CrossValidated], dict[str, str]]:
    """Those that are to be chosen among, in the order of the plan; ``WorkspaceError`` where one of them cannot be."""
    if not only:
        return finished, left_out
    there = [one.name for one in finished]
    for name in only:
        if name not in there:
            reason = left_out.get(name, "it is neither planned nor trained")
            raise WorkspaceError(f"{name} cannot be chosen: {reason}; all folds are finished of {', '.join(there)}")
    return [one for one in finished if one.name in only], {}


def _held_out_cases(dataset: Dataset, folds: Mapping[str, Split]) -> list[Case]:
    """The cases that the folds hold out, in the order of the dataset."""
    ids = {case_id for split in folds.values() for case_id in split.validation}
    cases = [case for case in dataset.cases if case.id in ids]
    if gone := ids - {case.id for case in cases}:
        raise WorkspaceError(
            f"{in_words(gone)} held out by a fold, but no longer in the dataset ({listed(gone)}); put back what is "
            "missing, or run nnlite plan and nnlite train again"
        )
    return cases


def _refuse_edited_cases(dataset: Dataset, workspace: Workspace, variants: Collection[str | None]) -> None:
    if edited := {case for variant in variants for case in edited_cases(dataset, workspace, variant)}:
        raise WorkspaceError(
            f"{in_words(edited)} newer than the plan of {dataset.name} ({listed(edited)}), so earlier "
            "predictions and scores may no longer hold; put back what was there, or run nnlite plan again; where an "
            f"image changed, train anew, and for trainings that were scored with other labels, {SCORE_AGAIN}"
        )


def _candidate(members: Members, scores: Scores, finished: Mapping[str, CrossValidated]) -> Candidate:
    chosen = [finished[name] for name in members]
    weights = sum(parameters_of_all_stages(one.plan, one.plan.configuration(one.name)) for one in chosen)
    return Candidate(members=members, scores=scores, parameters=weights)


def _require_agreement(chosen: CandidateScore, measured: ChosenPostprocessing, after_crf: float | None) -> None:
    """Raise ``WorkspaceError`` where the masks, as they lie there, are not those that were scored."""
    found = measured.trials[0].mean_dice_before
    scored = chosen.mean_dice if after_crf is None else after_crf
    if not abs(found - scored) <= TIE:  # so put that a NaN does not agree
        raise WorkspaceError(
            f"the masks of {name_of(chosen.members)} have a mean Dice of {found:.4f}, but their scores say "
            f"{scored:.4f}: masks, scores or labels were changed; {SCORE_AGAIN}"
        )


def _measured(
    dataset: Dataset,
    workspace: Workspace,
    finished: Mapping[str, CrossValidated],
    members: Members,
    folds: Mapping[str, Split],
    device: torch.device,
    progress: Progress,
) -> Measured:
    """What was measured of the held-out cases of these members; where an earlier nnlite did not, it is done now."""
    if len(members) > 1:
        measure_ensemble(dataset, workspace, finished, members, folds, device=device, progress=progress)
        return read_measured(workspace.ensemble(members))
    one = finished[members[0]]
    measured: Measured = {}
    for fold, split in folds.items():
        run = one.runs[fold]
        if not all(case_id in read_measured(run) for case_id in split.validation):
            configuration = one.plan.configuration(one.name)
            store = CaseStore(prepare(dataset, workspace, one.plan, [configuration], progress=progress)[one.name])
            stored = {case_id: store.open(case_id) for case_id in split.validation}
            measure_held_out(run, stored, device=device, progress=progress)
        measured |= read_measured(run)
    return measured


def _validation_folders(
    workspace: Workspace, finished: Mapping[str, CrossValidated], members: Sequence[str], folds: Mapping[str, Split]
) -> dict[str, Path]:
    """By case id, the folder with the mask that these members predicted for it."""
    together = workspace.ensemble(members).validation
    return {
        case_id: finished[members[0]].runs[fold].validation if len(members) == 1 else together
        for fold, split in folds.items()
        for case_id in split.validation
    }

"""Which configurations have their whole cross-validation behind them: every fold trained, predicted and scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnlite.data.records import read_record
from nnlite.data.split import Split, Splits
from nnlite.errors import WorkspaceError
from nnlite.evaluation.cross_validation import name_of
from nnlite.evaluation.scores import Scores, read_scores
from nnlite.pipeline.dataset_source import in_words, listed
from nnlite.pipeline.fold_remarks import fold_remarks
from nnlite.pipeline.prepare_cases import is_scored
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.decisions import decisions
from nnlite.planning.planner import Plan
from nnlite.workspace import RunFolder, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidated:
    """A configuration, the plan that its runs follow, one run per fold, and the scores of all held-out cases.

    ``remarks`` tell in words what its folds do not share.
    """

    name: str
    plan: Plan
    runs: Mapping[str, RunFolder]
    scores: Scores
    remarks: tuple[str, ...]


def held_out_by_fold(workspace: Workspace) -> dict[str, Split]:
    """The folds of a dataset by their names; each case is to be held out once, or nothing can be compared by cases."""
    splits = read_record(workspace.splits, Splits)
    if not splits.folds:
        raise WorkspaceError(f"{workspace.dataset} has no folds in {workspace.splits}, so no held-out cases to go by")
    count = Counter(case for split in splits.folds for case in split.validation)
    if twice := sorted(case for case, times in count.items() if times > 1):
        raise WorkspaceError(
            f"{in_words(twice)} held out by more than one fold of {workspace.splits} ({listed(twice)}); "
            "selecting needs folds that hold out each case once"
        )
    return dict(zip(splits.names, splits.folds, strict=True))


def cross_validated(
    workspace: Workspace, plan: Plan, folds: Mapping[str, Split]
) -> tuple[list[CrossValidated], dict[str, str]]:
    """Configurations that can be compared, ordered as in the plan; and why those begun or planned cannot.

    ``WorkspaceError`` says what is missing where there is none.
    """
    begun = {run.configuration for run in workspace.existing_runs()}
    names = [*plan.configurations, *sorted(begun - plan.configurations.keys())]
    finished: list[CrossValidated] = []
    left_out: dict[str, str] = {}
    for name in names:
        runs = {fold: workspace.run(name, fold) for fold in folds}
        if reason := _obstacle(runs, folds, plan):
            left_out[name] = reason
            continue
        of_folds = [read_scores(run.scores, run.summary) for run in runs.values()]
        if reason := _other_cases(dict(zip(folds, of_folds, strict=True)), folds):
            left_out[name] = reason
            continue
        rows = tuple(row for scores in of_folds for row in scores.rows)
        jobs = {fold: read_record(run.config, RunConfig) for fold, run in runs.items()}
        own_plan = next(iter(jobs.values())).plan
        scores = Scores(rows=rows, structures=own_plan.labels.structures)
        finished.append(CrossValidated(name=name, plan=own_plan, runs=runs, scores=scores, remarks=fold_remarks(jobs)))
    if not finished:
        reasons = "\n  ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise WorkspaceError(
            f"no configuration of {workspace.dataset} has all of its folds finished, so there is nothing to choose; "
            f"train them with nnlite train DATASET CONFIG {' '.join(folds)}:\n  {reasons}"
        )
    return finished, left_out


def instance_remarks(members: Sequence[str], finished: Sequence[CrossValidated]) -> tuple[str, ...]:
    """In words, that these members tell no single objects apart though other configurations would: no Dice knows."""
    apart = {one.name for one in finished if one.plan.labels.instances is not None}
    if not apart or not apart.isdisjoint(members):
        return ()
    return (
        f"{name_of(members)} tells no single objects apart, as {', '.join(sorted(apart))} would, and the Dice of masks "
        "knows nothing of them; to choose among those that do, name them",
    )


def _obstacle(runs: Mapping[str, RunFolder], folds: Mapping[str, Split], plan: Plan) -> str:
    """Why these runs of a configuration are no cross-validation of this plan's labels; empty if they are."""
    missing = [fold for fold, run in runs.items() if not is_scored(run)]
    if missing:
        return "not trained" if len(missing) == len(folds) else f"{', '.join(missing)} not finished"
    jobs = [read_record(run.config, RunConfig) for run in runs.values()]
    first, *others = [decisions(job.plan, job.configuration) for job in jobs]
    if any(other != first for other in others):
        return "its folds follow different plans"
    if (first.labels.of_masks, first.transpose) != (plan.labels.of_masks, plan.transpose):
        return "its plan has other labels or axes than the present one"
    return ""


def _other_cases(scores: Mapping[str, Scores], folds: Mapping[str, Split]) -> str:
    """In words, the folds that were scored on other cases than they now hold out; empty if there are none."""
    other = [fold for fold, split in folds.items() if set(scores[fold].cases) != set(split.validation)]
    return f"{', '.join(other)} scored on other cases than splits.json holds out" if other else ""

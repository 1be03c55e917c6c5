"""Set trainings side by side: their scores on the same held-out cases, and what their networks cost.

Whether a difference is more than chance is said by the methods of ``evaluation/cross_validation.py``. Two trainings
that differ in nothing but their seed differ, too: what one variant gains over another counts only where it is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from nnlite.data.records import read_record, record, write_record
from nnlite.errors import UsageError, WorkspaceError
from nnlite.evaluation.cross_validation import Candidate, CandidateScore, require_same_truth
from nnlite.evaluation.cross_validation import compare as compare_scores
from nnlite.evaluation.instance_scores import InstanceSummary, instance_scores_of, instance_summary
from nnlite.evaluation.scores import Scores, read_scores
from nnlite.pipeline.fold_remarks import fold_remarks
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset
from nnlite.pipeline.prepare_cases import is_scored
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.cost import parameters_of_all_stages, step_gib
from nnlite.training.curves import read_log
from nnlite.workspace import RunFolder, Workspace


@record
class ComparedRun:
    """A training of one or more folds beside the first of a comparison.

    ``parameters`` are the weights of all networks that a prediction asks, those of a cascade's first stage included;
    all else is of the training itself. ``step_s`` is the median over epochs of an epoch's time by its training steps,
    validation included; ``memory_gib`` what a step takes at its fullest, measured where the plan was probed
    (``memory_measured``), else predicted. ``training_s`` is the mean over folds. Both times are None for a model that
    was imported. ``instances`` scores the single objects in the compared cases, None where they are not told apart.
    """

    name: str
    folds: tuple[str, ...]
    scores: CandidateScore
    parameters: int
    step_s: float | None
    memory_gib: float
    memory_measured: bool
    training_s: float | None
    instances: InstanceSummary | None = None


@record
class RunComparison:
    """Trainings that were scored on the same ``cases``; the first is the one that the others are compared with."""

    dataset: str
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    runs: tuple[ComparedRun, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Trainings of one name, by fold, what they were asked for, and what they scored."""

    name: str
    jobs: dict[str, RunConfig]
    runs: dict[str, RunFolder]
    scores: dict[str, Scores]

    @property
    def job(self) -> RunConfig:
        """What the first of them was asked for."""
        return next(iter(self.jobs.values()))


def compare(
    dataset: Path, names: Sequence[str], *, work: Path = DEFAULT_WORK, output: Path | None = None
) -> RunComparison:
    """Compare trainings by the cases that all of them held out; the first named is what the others are set against.

    A name is that of a configuration or variant, for all of its finished folds ("3d@focal"), or with one fold
    ("3d@focal/fold0"). ``output`` is a JSON file to write the result to. ``UsageError`` for fewer than two names,
    ``WorkspaceError`` for one without finished folds, where no case was held out by all, or where the labels of a case
    have changed between their scores.
    """
    if len(set(names)) != len(names) or len(names) < 2:
        raise UsageError(f"name two or more different trainings to compare, as in 3d 3d@focal, not {' '.join(names)}")
    found, workspace = locate_dataset(dataset, work)
    asked = [_asked(workspace, name) for name in names]
    cases = _common_cases(asked)
    compared = compare_scores([_candidate(one, asked[0], cases) for one in asked], against=0)
    _require_same_objects(asked, cases)
    by_name = {one.name: one for one in asked}
    result = RunComparison(
        dataset=found.name,
        cases=tuple(sorted(cases)),
        labels=compared.labels,
        runs=tuple(_compared(by_name[score.members[0]], score, cases) for score in compared.candidates),
        remarks=(
            *compared.remarks,
            *_left_out(asked, cases),
            *(told for one in asked for told in fold_remarks(one.jobs)),
        ),
    )
    if output is not None:
        write_record(output, result)
    return result


def _asked(workspace: Workspace, name: str) -> _Asked:
    """The finished folds that a name means."""
    configuration, _, fold = name.partition("/")
    begun = [run for run in workspace.existing_runs() if run.configuration == configuration and fold in ("", run.fold)]
    runs = {run.fold: run for run in begun if is_scored(run)}
    if not runs:
        there = sorted({run.configuration for run in workspace.existing_runs() if is_scored(run)})
        raise WorkspaceError(
            f"{name} has no finished fold with held-out cases in {workspace.folder}; "
            + (f"such are there of {', '.join(there)}" if there else "train it first")
        )
    jobs = {fold: read_record(run.config, RunConfig) for fold, run in runs.items()}
    scores = {fold: read_scores(run.scores, run.summary) for fold, run in runs.items()}
    return _Asked(name=name, jobs=jobs, runs=runs, scores=scores)


def _common_cases(asked: Sequence[_Asked]) -> set[str]:
    """The cases that every one of them was scored on."""
    held_out = [{case for scores in one.scores.values() for case in scores.cases} for one in asked]
    common = set.intersection(*held_out)
    if not common:
        folds = "; ".join(f"{one.name}: {', '.join(one.runs)}" for one in asked)
        raise WorkspaceError(f"no case was held out by all of them, so there is nothing to compare ({folds})")
    return common


def _left_out(asked: Sequence[_Asked], cases: set[str]) -> tuple[str, ...]:
    """In words, whose further held-out cases do not count."""
    more = {one.name: sum(len(set(scores.cases) - cases) for scores in one.scores.values()) for one in asked}
    return tuple(
        f"{name}: {count} cases left out, which others did not hold out" for name, count in more.items() if count
    )


def _candidate(one: _Asked, first: _Asked, cases: set[str]) -> Candidate:
    """Its scores on these cases."""
    labels = one.job.plan.labels
    if labels.of_masks != first.job.plan.labels.of_masks:
        raise WorkspaceError(f"{one.name} has other labels than {first.name}, so their scores cannot be compared")
    rows = tuple(row for scores in one.scores.values() for row in scores.rows if row.case in cases)
    scores = Scores(rows=rows, structures=labels.structures)
    weights = parameters_of_all_stages(one.job.plan, one.job.plan.configuration(one.job.configuration))
    return Candidate(members=(one.name,), scores=scores, parameters=weights)


def _require_same_objects(asked: Sequence[_Asked], cases: set[str]) -> None:
    """``WorkspaceError`` where trainings know other numbers of true objects in a case.

    A number that covered two nuclei and became two changes no voxel of the mask, and so no Dice.
    """
    known: dict[str, dict[tuple[str, str], int]] = {}
    for one in asked:
        scores = instance_scores_of((run.instance_scores for run in one.runs.values()), cases)
        if scores is not None:
            label = one.job.plan.labels.structures[0]  # objects are those of one label
            known[one.name] = {(row.case, label): row.true_instances for row in scores.rows}
    require_same_truth(known, counted="objects", cases=len(cases))


def _compared(one: _Asked, score: CandidateScore, cases: set[str]) -> ComparedRun:
    job = one.job
    configuration = job.plan.configuration(job.configuration)
    logs = {fold: log for fold, run in one.runs.items() if (log := read_log(run.log))}
    steps_s = [epoch.duration_s / one.jobs[fold].train.iterations for fold, log in logs.items() for epoch in log]
    measured = configuration.measured
    return ComparedRun(
        name=one.name,
        folds=tuple(one.runs),
        scores=score,
        parameters=score.parameters,
        step_s=median(steps_s) if steps_s else None,
        memory_gib=step_gib(job.plan, configuration) if measured is None else measured.memory_gib,
        memory_measured=measured is not None,
        training_s=fmean(log[-1].elapsed_s for log in logs.values()) if logs else None,
        instances=instance_summary((run.instance_scores for run in one.runs.values()), cases),
    )

"""The decision of ``nnlite select`` on disk, what it was made from, and whether that still is what lies there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from nnlite.data.digest import file_digest
from nnlite.data.records import read_record, record
from nnlite.errors import CheckpointError
from nnlite.evaluation.choose_crf import CrfTrial
from nnlite.evaluation.choose_rules import RuleTrial
from nnlite.evaluation.cross_validation import CandidateScore, name_of
from nnlite.evaluation.reliability import LabelCalibration
from nnlite.inference.postprocess import Postprocessing
from nnlite.pipeline.run_config import RunConfig
from nnlite.workspace import RunFolder, Workspace


@record
class TrainedRun:
    """A finished training, and a digest of its final model: one that is trained anew has another."""

    configuration: str
    fold: str
    digest: str


@record
class Selection:
    """The model: the ``members`` whose folds answer together, and what is done to their masks; and why.

    ``candidates`` begin with the chosen one. ``mean_dice`` is its mean over ``labels`` and held-out ``cases``,
    ``mean_dice_postprocessed`` that of the masks after ``postprocessing``, measured on the same cases that the rules
    were chosen on. ``trials`` are the rules that were tried, ``crf_trials`` the dense CRFs, where any was. ``left_out``
    tells which configurations could not take part, and why. ``runs`` are all trainings that took part, those that a
    cascade continues from included. ``reliability`` says by label how a Dice is expected of a new case; it lacks labels
    with too few cases, and all of them in a selection of an earlier nnlite.
    """

    dataset: str
    members: tuple[str, ...]
    postprocessing: Postprocessing
    cases: int
    labels: tuple[str, ...]
    mean_dice: float
    mean_dice_postprocessed: float
    candidates: tuple[CandidateScore, ...]
    trials: tuple[RuleTrial, ...]
    left_out: dict[str, str]
    remarks: tuple[str, ...]
    runs: tuple[TrainedRun, ...]
    reliability: dict[str, LabelCalibration] = field(default_factory=dict)
    crf_trials: tuple[CrfTrial, ...] = ()

    @property
    def name(self) -> str:
        """The members' names, joined."""
        return name_of(self.members)


def trained_run(run: RunFolder) -> TrainedRun:
    """What a selection remembers of a finished training."""
    return TrainedRun(configuration=run.configuration, fold=run.fold, digest=file_digest(run.checkpoint_final))


def with_first_stage(workspace: Workspace, runs: Iterable[RunFolder]) -> tuple[RunFolder, ...]:
    """These folds of a configuration, and of a cascade the same folds of the one that it continues from, if finished.

    What a cascade says rests on both: its held-out cases start from masks of the first stage's folds.
    """
    folds = tuple(runs)
    stage = _first_stage(folds[0])
    first = [workspace.run(stage, run.fold) for run in folds] if stage else []
    return (*folds, *(run for run in first if run.checkpoint_final.exists()))


def read_selection(workspace: Workspace) -> Selection | None:
    """The selection of a workspace, None where there is none.

    ``CheckpointError`` when a training of the selected configurations, or of the first stage of a selected cascade, is
    gone, or is not the one that was selected.
    """
    if not workspace.selection.exists():
        return None
    selection = read_record(workspace.selection, Selection)
    first_stages = {
        _first_stage(workspace.run(run.configuration, run.fold))
        for run in selection.runs
        if run.configuration in selection.members
    }
    faults = []
    for chosen in selection.runs:
        if chosen.configuration not in {*selection.members, *first_stages}:
            continue
        run = workspace.run(chosen.configuration, chosen.fold)
        if not run.checkpoint_final.exists():
            faults.append(f"{chosen.configuration} {chosen.fold} is gone")
        elif trained_run(run) != chosen:
            faults.append(f"{chosen.configuration} {chosen.fold} was trained anew")
    if faults:
        raise CheckpointError(
            f"{workspace.selection} selected {selection.name} from other trainings than those that are there now: "
            f"{', '.join(faults)}; run nnlite select again, or name a configuration with --config"
        )
    return selection


def _first_stage(run: RunFolder) -> str | None:
    """The configuration that a training's continues from; None unless it is a cascade's, and where it is gone."""
    if not run.config.exists():
        return None
    job = read_record(run.config, RunConfig)
    return job.plan.configuration(job.configuration).previous_stage

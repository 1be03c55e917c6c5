"""Only whole cross-validations of one plan and of the folds as they are now can be compared."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.data.records import read_record, write_record
from nnlite.data.split import Split, Splits
from nnlite.errors import WorkspaceError
from nnlite.evaluation.scores import Scores
from nnlite.pipeline.cross_validated import CrossValidated, cross_validated, held_out_by_fold, instance_remarks
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.planner import Plan
from nnlite.workspace import Workspace


@pytest.fixture
def workspace(cross_validated_work: Path, tmp_path: Path) -> Workspace:
    return Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")


def left_out(workspace: Workspace) -> dict[str, str]:
    return cross_validated(workspace, read_record(workspace.plan, Plan), held_out_by_fold(workspace))[1]


def test_runs_and_scores_of_all_folds_come_together(workspace: Workspace):
    folds = held_out_by_fold(workspace)
    finished, reasons = cross_validated(workspace, read_record(workspace.plan, Plan), folds)
    assert [one.name for one in finished] == ["2d", "3d"]
    assert reasons == {}
    assert list(finished[0].runs) == ["fold0", "fold1"]
    assert sorted(finished[0].scores.cases) == [f"ball_{number}" for number in range(5)]


def test_folds_that_were_trained_by_different_plans_do_not_go_together(workspace: Workspace):
    config = workspace.run("2d", "fold1").config
    run = read_record(config, RunConfig)
    planned = run.plan.configurations
    other = replace(planned["2d"], batch_dice=not planned["2d"].batch_dice)
    write_record(config, replace(run, plan=replace(run.plan, configurations={**planned, "2d": other})))
    assert left_out(workspace) == {"2d": "its folds follow different plans"}


def test_folds_go_together_though_between_them_something_else_was_planned(workspace: Workspace):
    """2d is explained in other words, and of 3d, which is trained by itself, there is another batch."""
    config = workspace.run("2d", "fold1").config
    run = read_record(config, RunConfig)
    planned = run.plan.configurations
    words = replace(planned["2d"], reasons={**planned["2d"].reasons, "patch_size": "corrected by a factor of 0.95"})
    others = {"2d": words, "3d": replace(planned["3d"], batch_size=7)}
    write_record(config, replace(run, plan=replace(run.plan, configurations={**planned, **others})))
    assert left_out(workspace) == {}


def test_a_plan_of_other_labels_leaves_nothing_to_compare(workspace: Workspace):
    plan = read_record(workspace.plan, Plan)
    labels = Labels(names=("background", "ball", "heart"), values=(0, 1, 7))
    write_record(workspace.plan, replace(plan, labels=labels))
    with pytest.raises(WorkspaceError, match="3d: its plan has other labels or axes than the present one"):
        left_out(workspace)


def test_a_plan_that_mirrors_labels_in_another_way_leaves_nothing_out(workspace: Workspace):
    plan = read_record(workspace.plan, Plan)
    write_record(workspace.plan, replace(plan, labels=replace(plan.labels, mirrored=(("ball", "core"),))))
    assert left_out(workspace) == {}


def test_folds_that_were_dealt_anew_are_noticed(workspace: Workspace):
    splits = read_record(workspace.splits, Splits)
    write_record(workspace.splits, replace(splits, folds=splits.folds[::-1]))
    with pytest.raises(WorkspaceError, match=r"2d: fold0, fold1 scored on other cases than splits\.json holds out"):
        left_out(workspace)


def test_a_case_that_is_held_out_twice_or_never_any_fold_is_refused(workspace: Workspace):
    splits = read_record(workspace.splits, Splits)
    twice = Split(train=("ball_1",), validation=("ball_0",))
    write_record(workspace.splits, replace(splits, folds=(*splits.folds, twice)))
    with pytest.raises(WorkspaceError, match=r"1 case is held out by more than one fold of .*\(ball_0\)"):
        held_out_by_fold(workspace)
    write_record(workspace.splits, replace(splits, folds=()))
    with pytest.raises(WorkspaceError, match="balls has no folds"):
        held_out_by_fold(workspace)


def test_it_is_told_where_the_chosen_ones_tell_no_objects_apart_and_others_would():
    plain = Labels(names=("background", "nucleus"), values=(0, 1))
    plans = {
        name: replace(tiny.plan("2d"), labels=replace(plain, instances=instances))
        for name, instances in (("2d", None), ("2d@apart", Instances()), ("2d@rim", Instances(border_px=1, rim=True)))
    }
    finished = [
        CrossValidated(name=name, plan=plan, runs={}, scores=Scores(rows=()), remarks=())
        for name, plan in plans.items()
    ]
    [remark] = instance_remarks(("2d",), finished)
    assert remark.startswith("2d tells no single objects apart, as 2d@apart, 2d@rim would")
    assert instance_remarks(("2d@apart",), finished) == ()
    assert instance_remarks(("2d",), finished[:1]) == ()

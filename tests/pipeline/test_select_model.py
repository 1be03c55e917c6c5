"""The decision rests on what the trainings left, is written down whole, and is refused where its evidence is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.dataset import find_dataset
from nnlite.data.image import read_label, write_mask
from nnlite.data.records import read_record, write_record
from nnlite.errors import DatasetError, UsageError, WorkspaceError
from nnlite.evaluation.folders import evaluate_folders
from nnlite.evaluation.scores import read_scores
from nnlite.pipeline.dataset_source import remember_source
from nnlite.pipeline.ensemble_held_out import EnsembleMembers
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.selection import Selection
from nnlite.planning.planner import Plan
from nnlite.workspace import Workspace


@pytest.fixture
def workspace(cross_validated_work: Path, tmp_path: Path) -> Workspace:
    """A copy of the workspace with two finished cross-validations, to be changed at will."""
    return Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")


def select(balls: Path, workspace: Workspace, **options: object) -> Selection:
    arguments: dict[str, object] = {"work": workspace.root, "device": "cpu", **options}
    return pipeline.select(balls, **arguments).selection  # type: ignore[arg-type]


def all_masks(folder: Path, workspace: Workspace, name: str) -> Path:
    for fold in ("fold0", "fold1"):
        shutil.copytree(workspace.run(name, fold).validation, folder, dirs_exist_ok=True)
    return folder


def test_candidates_have_the_scores_of_their_masks_and_the_best_is_chosen(
    balls: Path, workspace: Workspace, tmp_path: Path
):
    selection = select(balls, workspace)
    means = {one.members: one.mean_dice for one in selection.candidates}
    folders = {(name,): all_masks(tmp_path / name, workspace, name) for name in ("2d", "3d")}
    folders["2d", "3d"] = workspace.ensemble(("2d", "3d")).validation
    expected = {members: evaluate_folders(balls / "labels", folder).mean_dice for members, folder in folders.items()}
    assert means == pytest.approx(expected, abs=1e-5)  # scores.csv has six digits
    assert selection.members == max(expected, key=lambda members: expected[members])
    assert (selection.cases, selection.labels, selection.left_out) == (5, ("ball", "core"), {})
    assert {(run.configuration, run.fold) for run in selection.runs} == {
        (name, fold) for name in ("2d", "3d") for fold in ("fold0", "fold1")
    }
    assert read_record(workspace.selection, Selection) == selection


def test_folds_that_were_not_trained_alike_are_told_of(balls: Path, workspace: Workspace):
    config = workspace.run("3d", "fold1").config
    job = read_record(config, RunConfig)
    write_record(config, replace(job, train=replace(job.train, loss="focal+dice")))
    selection = select(balls, workspace, most=1)
    assert selection.remarks == ("3d: its folds were not trained alike: loss (fold0: dice+ce, fold1: dice+focal)",)
    assert [one.members for one in selection.candidates] == [("3d",), ("2d",)]  # the means decide, as ever


def test_what_is_there_is_not_predicted_again(balls: Path, workspace: Workspace):
    first = select(balls, workspace)
    ensemble = workspace.ensemble(("2d", "3d"))
    before = {path.name: path.stat().st_mtime_ns for path in ensemble.validation.iterdir()}
    scores = read_scores(ensemble.scores, ensemble.summary)
    ensemble.summary.unlink()  # as if it had been interrupted at the last case
    (ensemble.validation / "ball_2.nii.gz").unlink()
    assert select(balls, workspace) == first
    after = {path.name: path.stat().st_mtime_ns for path in ensemble.validation.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"ball_2.nii.gz"}
    assert [row.dice for row in read_scores(ensemble.scores, ensemble.summary).rows] == [
        row.dice for row in scores.rows
    ]


def test_what_a_cascade_says_is_not_kept_when_its_first_stage_is_trained_anew(balls: Path, workspace: Workspace):
    plan = read_record(workspace.plan, Plan)
    full = plan.configuration("3d")
    stages = {
        "3d-lowres": replace(full, name="3d-lowres"),
        "3d-cascade": replace(full, name="3d-cascade", previous_stage="3d-lowres"),
    }
    write_record(workspace.plan, replace(plan, configurations={**plan.configurations, **stages}))
    folds = ("fold0", "fold1")
    for name in stages:
        pipeline.train(balls, name, folds, work=workspace.root, device="cpu", epochs=1, iterations=2)
    both = ("3d", "3d-cascade")
    selection = select(balls, workspace, only=both)
    took_part = {(name, fold) for name in (*both, "3d-lowres") for fold in folds}
    assert {(run.configuration, run.fold) for run in selection.runs} == took_part
    ensemble = workspace.ensemble(both)
    assert set(read_record(ensemble.members, EnsembleMembers).runs) == set(selection.runs)
    kept = ensemble.validation / "of_before.nii.gz"
    kept.touch()
    select(balls, workspace, only=both)
    assert kept.exists()
    first, second = (workspace.run("3d-lowres", fold).checkpoint_final for fold in folds)
    shutil.copy(first, second)
    select(balls, workspace, only=both)
    assert not kept.exists()


def test_no_ensemble_is_tried_where_only_single_configurations_are_asked_for(balls: Path, workspace: Workspace):
    assert [one.members for one in select(balls, workspace, most=1).candidates] == [("3d",), ("2d",)]
    assert not workspace.ensemble(("2d", "3d")).folder.exists()
    with pytest.raises(UsageError, match="name 1 or more"):
        select(balls, workspace, most=0)


def test_a_configuration_with_missing_folds_is_left_out_and_named(balls: Path, workspace: Workspace):
    workspace.run("2d", "fold1").checkpoint_final.unlink()
    selection = select(balls, workspace)
    assert [one.members for one in selection.candidates] == [("3d",)]
    assert selection.left_out == {"2d": "fold1 not finished"}
    shutil.rmtree(workspace.run("3d", "fold0").folder)
    with pytest.raises(WorkspaceError, match=r"(?s)nothing to choose; .* fold0 fold1:.*3d: fold0 not finished"):
        select(balls, workspace)


def test_a_label_drawn_anew_since_the_plan_is_noticed(balls: Path, workspace: Workspace, tmp_path: Path):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    remember_source(find_dataset(data), workspace)
    label = data / "labels" / "ball_3.nii.gz"
    truth = read_label(label)
    write_mask(label, np.zeros_like(truth.array[0]), truth)
    with pytest.raises(WorkspaceError, match=r"1 case is newer than the plan of balls \(ball_3\)"):
        select(data, workspace)


def test_masks_that_are_not_those_that_were_scored_are_noticed(balls: Path, workspace: Workspace):
    for fold in ("fold0", "fold1"):
        for path in workspace.run("3d", fold).validation.iterdir():
            mask = read_label(path)
            write_mask(path, np.roll(mask.array[0], 3, axis=0), mask)
    with pytest.raises(
        WorkspaceError, match=r"the masks of 3d have a mean Dice of 0\.\d+, but their scores say 0\.\d+"
    ):
        select(balls, workspace, most=1)


def test_an_ensemble_that_was_scored_before_a_label_was_corrected_is_noticed_and_scored_again(
    balls: Path, workspace: Workspace, tmp_path: Path
):
    select(balls, workspace)
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    workspace.source.unlink()
    label = data / "labels" / "ball_3.nii.gz"
    truth = read_label(label)
    write_mask(label, np.where(truth.array[0] == 7, 1, truth.array[0]), truth)
    for name in ("2d", "3d"):
        scored_anew(data, workspace, name)
    with pytest.raises(WorkspaceError, match=r"1 of 5 cases .*: ball_3 \(.*2d \d+, 3d \d+, 2d \+ 3d \d+\)"):
        select(data, workspace)
    ensemble = workspace.ensemble(("2d", "3d"))
    before = {path.name: path.stat().st_mtime_ns for path in ensemble.validation.iterdir()}
    ensemble.summary.unlink()  # as the message says
    select(data, workspace)
    assert {path.name: path.stat().st_mtime_ns for path in ensemble.validation.iterdir()} == before


def test_a_case_that_is_gone_is_named(balls: Path, workspace: Workspace, tmp_path: Path):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    for kind in ("images", "labels"):
        (data / kind / "ball_4.nii.gz").unlink()
    workspace.source.unlink()
    with pytest.raises(WorkspaceError, match=r"1 case is held out by a fold, but no longer in the dataset \(ball_4\)"):
        select(data, workspace)


def scored_anew(balls: Path, workspace: Workspace, name: str, *, empty: bool = False) -> None:
    """Score the held-out masks of a configuration again, as they are or without any foreground."""
    for fold in ("fold0", "fold1"):
        run = workspace.run(name, fold)
        for path in run.validation.iterdir() if empty else ():
            mask = read_label(path)
            write_mask(path, np.zeros_like(mask.array[0]), mask)
        evaluate_folders(balls / "labels", run.validation, allow_missing=True).write(run.scores, run.summary)


def test_predictions_without_any_foreground_cannot_be_chosen(balls: Path, workspace: Workspace):
    scored_anew(balls, workspace, "3d", empty=True)
    selection = select(balls, workspace, most=1)
    assert selection.members == ("2d",)
    assert selection.remarks == ("3d: no foreground was predicted in any held-out case",)
    scored_anew(balls, workspace, "2d", empty=True)
    workspace.selection.unlink()
    with pytest.raises(DatasetError, match="2d, 3d: no foreground was predicted in any of the 5 held-out cases"):
        select(balls, workspace, most=1)
    assert not workspace.selection.exists()


def test_a_label_in_no_truth_decides_nothing_and_leaves_no_nan(balls: Path, workspace: Workspace, tmp_path: Path):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    workspace.source.unlink()
    for path in (data / "labels").iterdir():
        truth = read_label(path)
        write_mask(path, np.minimum(truth.array[0], 1), truth)
    for name in ("2d", "3d"):
        scored_anew(data, workspace, name)
    selection = select(data, workspace)
    assert selection.labels == ("ball",)
    assert "core: in the truth of no held-out case; it decides nothing" in selection.remarks
    assert {trial.rule.label for trial in selection.trials} == {None, "ball"}
    json.loads(workspace.selection.read_text(), parse_constant=pytest.fail)  # NaN is no JSON


def test_those_that_are_named_are_chosen_among(balls: Path, workspace: Workspace) -> None:
    selection = select(balls, workspace, only=["2d"])
    assert [one.members for one in selection.candidates] == [("2d",)]
    with pytest.raises(WorkspaceError, match="3d@gone cannot be chosen: it is neither planned nor trained; all folds"):
        select(balls, workspace, only=["2d", "3d@gone"])

"""Training folds: what is refused beforehand, what is skipped, and what goes on where it stopped."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nnlite import pipeline
from nnlite.data.records import read_record, write_record
from nnlite.errors import PlanError, UsageError, WorkspaceError
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.train_folds import RunConfig, is_finished
from nnlite.planning.planner import Plan
from nnlite.training.curves import EpochRecord
from nnlite.workspace import Workspace


class PowerCutError(Exception):
    """Ends a training from outside."""


@pytest.fixture
def workspace(trained_work: Path, tmp_path: Path) -> Workspace:
    """A copy of the trained workspace, to be changed at will."""
    return Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")


def train(balls: Path, workspace: Workspace, *folds: str, **options: object) -> tuple[pipeline.TrainResult, ...]:
    short: dict[str, object] = {"device": "cpu", "epochs": 2, "iterations": 2, **options}
    return pipeline.train(balls, "3d", folds, work=workspace.root, **short)  # type: ignore[arg-type]


def cut_power(epoch: EpochRecord) -> None:
    raise PowerCutError


def test_finished_folds_are_skipped_and_still_tell_their_scores(balls: Path, workspace: Workspace):
    results = train(balls, workspace, "fold0", "fold1")
    assert [(result.fold, result.skipped, result.epochs) for result in results] == [
        ("fold0", True, 2),
        ("fold1", True, 2),
    ]
    for result in results:
        run = workspace.run("3d", result.fold)
        assert (result.folder, result.scores) == (run.folder, run.scores)
        assert result.mean_dice == read_record(run.summary, Summary).foreground["dice"]
        assert result.training_s > 0


def test_all_holds_nothing_out(balls: Path, workspace: Workspace):
    seen: list[EpochRecord] = []
    [result] = train(balls, workspace, "all", on_epoch=seen.append)
    assert (result.scores, result.mean_dice, result.skipped, result.epochs) == (None, None, False, 2)
    assert [epoch.validation_loss for epoch in seen] == [None, None]
    assert is_finished(workspace.run("3d", "all"))
    assert not workspace.run("3d", "all").validation.exists()
    assert train(balls, workspace, "all")[0].skipped


def test_what_was_asked_for_is_kept_with_the_run(balls: Path, workspace: Workspace):
    config = read_record(workspace.run("3d", "fold0").config, RunConfig)
    assert (config.configuration, config.fold, config.device) == ("3d", "fold0", "cpu")
    assert (config.train.epochs, config.train.iterations, config.train.seed) == (2, 10, 0)
    assert config.plan == read_record(workspace.plan, Plan)
    assert set(config.versions) == {"python", "nnlite", "torch", "numpy"}


def test_an_unfinished_fold_is_refused_and_a_resumed_one_may_be_given_another_length(balls: Path, workspace: Workspace):
    with pytest.raises(PowerCutError):
        train(balls, workspace, "fold3", on_epoch=cut_power, seed=4)
    with pytest.raises(WorkspaceError, match="3d fold3 was begun and is not finished: add --resume"):
        train(balls, workspace, "fold3")
    seen: list[EpochRecord] = []
    [result] = train(balls, workspace, "fold3", resume=True, epochs=3, on_epoch=seen.append)
    assert [epoch.epoch for epoch in seen] == [1, 2]
    assert result.epochs == 3
    config = read_record(workspace.run("3d", "fold3").config, RunConfig)
    assert (config.train.epochs, config.train.seed) == (3, 4)


def test_a_resumed_fold_keeps_the_plan_it_was_begun_with(balls: Path, workspace: Workspace):
    with pytest.raises(PowerCutError):
        train(balls, workspace, "fold3", on_epoch=cut_power)
    plan = read_record(workspace.plan, Plan)
    wider = replace(plan.configuration("3d"), batch_size=3)
    write_record(workspace.plan, replace(plan, configurations={**plan.configurations, "3d": wider}))
    train(balls, workspace, "fold3", resume=True)
    assert read_record(workspace.run("3d", "fold3").config, RunConfig).plan == plan


def test_a_training_that_was_stopped_while_scoring_is_only_scored(balls: Path, workspace: Workspace):
    run = workspace.run("3d", "fold0")
    weights, scores = run.checkpoint_final.read_bytes(), run.summary.read_text()
    run.summary.unlink()
    seen: list[EpochRecord] = []
    [result] = train(balls, workspace, "fold0", resume=True, on_epoch=seen.append)
    assert (seen, result.skipped) == ([], False)
    assert (run.checkpoint_final.read_bytes(), run.summary.read_text()) == (weights, scores)


def test_resuming_what_was_never_begun_begins_it(balls: Path, workspace: Workspace):
    assert train(balls, workspace, "fold4", resume=True)[0].epochs == 2


@pytest.mark.parametrize("fold", ["fold5", "0", ""])
def test_a_fold_that_does_not_exist_is_refused_before_any_is_trained(balls: Path, workspace: Workspace, fold: str):
    with pytest.raises(UsageError, match=f'no fold "{fold}"; its folds are fold0, fold1, fold2, fold3, fold4, all'):
        train(balls, workspace, "fold2", fold)
    assert not workspace.run("3d", "fold2").folder.exists()


def test_a_case_that_is_gone_is_named(balls: Path, tmp_path: Path):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    pipeline.plan(data, work=tmp_path / "work", device="cpu")
    for folder in ("images", "labels"):
        (data / folder / "ball_1.nii.gz").unlink()
    workspace = Workspace(root=tmp_path / "work", dataset="balls")
    with pytest.raises(
        WorkspaceError,
        match=r"no longer in the dataset \(ball_1\); put them back, or run nnlite plan again",
    ):
        train(data, workspace, "fold0")


def test_training_needs_a_plan(balls: Path, tmp_path: Path):
    with pytest.raises(PlanError, match="run nnlite plan first"):
        train(balls, Workspace(root=tmp_path, dataset="balls"), "fold0")


def test_training_on_another_device_than_planned_for_is_warned_of(
    balls: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
):
    plan = read_record(workspace.plan, Plan)
    write_record(workspace.plan, replace(plan, device="cuda", memory_gib=8.0))
    with caplog.at_level(logging.WARNING):
        train(balls, workspace, "fold0")
    assert "balls was planned for cuda and is trained on cpu" in caplog.text

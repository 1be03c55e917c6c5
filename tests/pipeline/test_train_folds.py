"""Training folds: what is refused beforehand, what is skipped, and what goes on where it stopped."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nnlite import pipeline
from nnlite.data.records import read_record, write_record
from nnlite.data.split import make_splits
from nnlite.errors import MemoryShortError, PlanError, UsageError, WorkspaceError
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.dataset_source import DatasetSource
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.run_status import is_finished
from nnlite.pipeline.training_lock import locked
from nnlite.planning.planner import Plan
from nnlite.training.curves import EpochRecord, read_log
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


def test_choices_are_kept_with_the_run_hold_on_the_way_and_cannot_change(balls: Path, workspace: Workspace):
    with pytest.raises(PowerCutError):
        train(balls, workspace, "fold3", on_epoch=cut_power, loss="tversky+ce", optimizer="sgd", ema=0.9)
    before = workspace.run("3d", "fold3").config.read_text()
    with pytest.raises(UsageError, match=r"3d fold3 was begun with --loss tversky\+ce, not dice, .* leave --loss out"):
        train(balls, workspace, "fold3", loss="dice")
    assert workspace.run("3d", "fold3").config.read_text() == before
    [result] = train(balls, workspace, "fold3")
    assert (result.epochs, result.resumed_epochs) == (2, 1)
    config = read_record(workspace.run("3d", "fold3").config, RunConfig).train
    assert (config.loss, config.optimizer, config.learning_rate, config.ema) == ("tversky+ce", "sgd", 0.01, 0.9)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"loss": "focal+dice"}, r"--loss dice\+ce, not focal\+dice"),
        ({"seed": 1}, "--seed 0, not 1, .* train 3d@NAME beside it"),
        ({"deterministic": True}, "--deterministic off, not on"),
    ],
)
def test_a_finished_fold_is_no_answer_to_another_choice(choice: dict, words: str, balls: Path, workspace: Workspace):
    with pytest.raises(UsageError, match=f"3d fold0 was begun with {words}"):
        train(balls, workspace, "fold0", **choice)
    assert train(balls, workspace, "fold0", loss="ce+dice", seed=0, deterministic=False)[0].skipped


@pytest.mark.parametrize(
    ("fold", "choice", "words"),
    [
        ("all", {"patience": 3}, "--patience follows the pseudo Dice of held-out cases, and 3d all holds none out"),
        ("all", {"schedule": "plateau"}, "--schedule plateau follows the pseudo Dice .*: name another --schedule, or"),
        ("fold3", {"loss": "dyce"}, 'there is no loss "dyce"; .*focal'),
    ],
)
def test_choices_that_make_no_sense_are_refused_before_anything_is_trained(
    fold: str, choice: dict, words: str, balls: Path, workspace: Workspace
):
    with pytest.raises(UsageError, match=words):
        train(balls, workspace, fold, **choice)
    assert not workspace.run("3d", fold).config.exists()


def test_a_training_whose_patience_ended_goes_on_with_more_of_it_only(
    balls: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
):
    still = {"epochs": 30, "iterations": 1, "learning_rate": 1e-12, "schedule": "constant"}
    [first] = train(balls, workspace, "fold3", patience=1, **still)
    assert first.epochs < 30
    [again] = train(balls, workspace, "fold3", resume=True, epochs=40, iterations=1)
    assert again.skipped
    assert "since its pseudo Dice had not risen for 1; for more, add --resume and a larger --patience" in caplog.text
    [longer] = train(balls, workspace, "fold3", resume=True, patience=2, epochs=30, iterations=1)
    assert (longer.skipped, longer.resumed_epochs) == (False, first.epochs)
    assert longer.epochs > first.epochs


def test_an_unfinished_fold_goes_on_with_the_settings_it_was_begun_with(balls: Path, workspace: Workspace):
    with pytest.raises(PowerCutError):
        train(balls, workspace, "fold3", on_epoch=cut_power, seed=4)
    run = workspace.run("3d", "fold3")
    assert not run.lock.exists()
    seen: list[EpochRecord] = []
    [result] = train(balls, workspace, "fold3", epochs=None, iterations=None, on_epoch=seen.append)
    assert ([epoch.epoch for epoch in seen], result.epochs, result.resumed_epochs) == ([1], 2, 1)
    config = read_record(run.config, RunConfig)
    assert (config.train.epochs, config.train.iterations, config.train.seed) == (2, 2, 4)


def test_an_unfinished_fold_is_not_made_deterministic_on_the_way(balls: Path, workspace: Workspace):
    with pytest.raises(PowerCutError):
        train(balls, workspace, "fold3", on_epoch=cut_power)
    with pytest.raises(UsageError, match="3d fold3 was begun with --deterministic off, not on"):
        train(balls, workspace, "fold3", deterministic=True)
    assert not read_record(workspace.run("3d", "fold3").config, RunConfig).train.deterministic


def test_an_unfinished_fold_is_given_another_length_only_on_purpose_and_another_seed_never(
    balls: Path, workspace: Workspace
):
    with pytest.raises(PowerCutError):
        train(balls, workspace, "fold3", on_epoch=cut_power, seed=4)
    before = workspace.run("3d", "fold3").config.read_text()
    with pytest.raises(UsageError, match="3d fold3 was begun for 2 epochs of 2 iterations, not 3 epochs of 2"):
        train(balls, workspace, "fold3", epochs=3)
    with pytest.raises(UsageError, match="3d fold3 was begun with --seed 4, not 5"):
        train(balls, workspace, "fold3", seed=5, resume=True)
    assert workspace.run("3d", "fold3").config.read_text() == before
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
    train(balls, workspace, "fold3")
    assert read_record(workspace.run("3d", "fold3").config, RunConfig).plan == plan


def test_a_training_that_was_stopped_while_scoring_is_only_scored(balls: Path, workspace: Workspace):
    run = workspace.run("3d", "fold0")
    weights, scores = run.checkpoint_final.read_bytes(), run.summary.read_text()
    run.summary.unlink()
    seen: list[EpochRecord] = []
    [result] = train(balls, workspace, "fold0", epochs=None, iterations=None, on_epoch=seen.append)
    assert (seen, result.skipped) == ([], False)
    assert (run.checkpoint_final.read_bytes(), run.summary.read_text()) == (weights, scores)


def test_a_training_that_was_stopped_while_scoring_is_made_longer_as_a_finished_one_is(
    balls: Path, workspace: Workspace
):
    run = workspace.run("3d", "fold0")
    first = run.checkpoint_final.read_bytes()
    run.summary.unlink()  # as when its end was being taken away to make it longer, too
    [longer] = train(balls, workspace, "fold0", epochs=3, iterations=None, resume=True)
    assert (longer.skipped, longer.epochs, longer.resumed_epochs) == (False, 3, 2)
    assert run.checkpoint_final.read_bytes() != first
    assert read_record(run.config, RunConfig).train.epochs == 3


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"epochs": 1, "iterations": None, "resume": True}, ""),
        ({"epochs": None, "iterations": 4, "resume": True}, ""),
        ({"epochs": 3, "iterations": None}, "is finished after 2 epochs; to train it for longer, add --resume"),
    ],
)
def test_a_training_that_is_only_scored_is_noted_with_the_length_that_it_has(
    asked: dict, told: str, balls: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
):
    run = workspace.run("3d", "fold0")
    weights, config = run.checkpoint_final.read_bytes(), read_record(run.config, RunConfig)
    run.summary.unlink()
    [result] = train(balls, workspace, "fold0", **asked)
    assert (result.skipped, result.epochs) == (False, 2)
    assert (run.checkpoint_final.read_bytes(), read_record(run.config, RunConfig)) == (weights, config)
    assert is_finished(run)
    assert told in caplog.text


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
        match=r"1 case is no longer in the dataset \(ball_1\): put back what is missing; or run nnlite plan again",
    ):
        train(data, workspace, "fold0")


def test_a_case_that_is_new_is_named_and_finished_folds_still_tell_their_scores(
    balls: Path, workspace: Workspace, tmp_path: Path
):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    write_record(workspace.source, DatasetSource(root=str(data), cases={f"ball_{n}": "" for n in range(4)}))
    with pytest.raises(WorkspaceError, match=r'1 case is new \(ball_4\): list what is new under "exclude"'):
        train(data, workspace, "fold0", "fold2")
    assert train(data, workspace, "fold0")[0].skipped


def test_all_folds_have_one_name_and_none_is_trained_twice(balls: Path, workspace: Workspace):
    def names(*folds: str) -> tuple[str, ...]:
        return pipeline.fold_names(balls, folds, work=workspace.root)

    assert names("folds") == ("fold0", "fold1", "fold2", "fold3", "fold4")
    assert names("fold3", "folds", "all", "fold3") == ("fold3", "fold0", "fold1", "fold2", "fold4", "all")
    with pytest.raises(UsageError, match='no fold "fold5"'):
        names("fold0", "fold5")
    write_record(workspace.splits, make_splits(["ball_0"]))
    with pytest.raises(UsageError, match="balls has no folds: there is only one case, so none can be held out"):
        names("folds")


def test_folds_means_every_fold_that_is_missing(balls: Path, workspace: Workspace):
    write_record(workspace.splits, make_splits([f"ball_{n}" for n in range(5)], folds=3))
    results = train(balls, workspace, "folds")
    assert [(result.fold, result.skipped) for result in results] == [
        ("fold0", True),
        ("fold1", True),
        ("fold2", False),
    ]


def test_a_fold_that_another_process_trains_is_left_to_it(balls: Path, workspace: Workspace):
    run = workspace.run("3d", "fold3")
    with locked(run), pytest.raises(WorkspaceError, match=f"3d fold3 is being trained by process {os.getpid()} on "):
        train(balls, workspace, "fold3")
    assert not run.folder.exists()


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


def test_what_an_augmentation_leaves_out_is_told_once(
    balls: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
):
    plan = read_record(workspace.plan, Plan)
    ct = replace(plan.configuration("2d"), normalization=("ct",))
    coronal = replace(plan, transpose=(1, 0, 2), configurations={**plan.configurations, "2d": ct})
    write_record(workspace.plan, coronal)
    short = {"device": "cpu", "epochs": 1, "iterations": 1}
    pipeline.train(balls, "2d", ("fold0",), work=workspace.root, augmentation="ct", **short)  # type: ignore[arg-type]
    told = "augmentation ct: no metal streaks, for slices do not lie in the plane of the scanner"
    assert [message for message in caplog.messages if message.startswith("augmentation")] == [told]


def test_a_finished_fold_is_made_longer_when_asked_to_resume_and_only_then(
    balls: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
):
    run = workspace.run("3d", "fold0")
    first = run.checkpoint_final.read_bytes()
    [left] = train(balls, workspace, "fold0", epochs=3, iterations=None)
    assert left.skipped
    assert "3d fold0 is finished after 2 epochs; to train it for longer, add --resume" in caplog.text
    [longer] = train(balls, workspace, "fold0", epochs=3, iterations=None, resume=True)
    assert (longer.skipped, longer.epochs, longer.resumed_epochs) == (False, 3, 2)
    assert run.checkpoint_final.read_bytes() != first
    assert [epoch.epochs for epoch in read_log(run.log)] == [2, 2, 3]
    [again] = train(balls, workspace, "fold0", epochs=3, iterations=None, resume=True)
    assert again.skipped


@pytest.mark.parametrize("what", ["is not there", "is damaged"])
def test_a_fold_without_its_last_state_cannot_be_made_longer_and_stays(what: str, balls: Path, workspace: Workspace):
    run = workspace.run("3d", "fold0")
    for state in (run.checkpoint_last, run.checkpoint_previous):
        state.unlink()
        if what == "is damaged":
            state.write_bytes(b"damaged")
    with pytest.raises(UsageError, match=rf"3d fold0 cannot be made longer: .*checkpoint_last\.pt {what}"):
        train(balls, workspace, "fold0", epochs=3, resume=True)
    assert is_finished(run)


@pytest.mark.parametrize(
    ("configuration", "planned_as"),
    [("3d", ""), ("3d@seed", ""), ("3d@big", " --as big")],  # of the two variants, one has a plan of its own
)
def test_where_not_even_a_sample_fits_the_command_to_type_is_told(
    configuration: str, planned_as: str, balls: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    def no_memory(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    pipeline.plan(balls, work=workspace.root, device="cpu", variant="big", probe=False)
    monkeypatch.setattr("nnlite.training.learner.deep_supervision_loss", no_memory)
    command = f"nnlite plan {balls} --device cpu{planned_as} --work {workspace.root}"
    with pytest.raises(
        MemoryShortError,
        match=rf"plan for less, with the other options that it was planned with, delete .*fold2, .*again: {command}$",
    ):
        pipeline.train(balls, configuration, ("fold2",), work=workspace.root, device="cpu", seed=1)

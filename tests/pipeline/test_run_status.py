"""What is told of a cross-validation, and what to type next."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nnlite import pipeline
from nnlite.data.records import read_record, write_record
from nnlite.data.split import make_splits
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.dataset_source import DatasetSource
from nnlite.pipeline.plan_dataset import read_plan
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.run_status import FoldStatus, fold_status
from nnlite.pipeline.training_lock import locked
from nnlite.training.curves import append_to_log, read_log
from nnlite.training.tracking import TrackerState, TrackingState
from nnlite.workspace import RunFolder, Workspace

SHORT = ("--epochs", "2", "--iterations", "10")  # as the folds of the fixture are trained
FOLDS = ("fold0", "fold1", "fold2", "fold3", "fold4")


@pytest.fixture
def workspace(trained_work: Path, tmp_path: Path) -> Workspace:
    """A workspace of ``balls`` in which 3d fold0 and fold1 are trained."""
    return Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")


def interrupt(run: RunFolder, *, after_epochs: int, trained: RunFolder) -> None:
    """As if the training of another fold had been interrupted here."""
    run.folder.mkdir(parents=True)
    shutil.copy(trained.config, run.config)
    for epoch in read_log(trained.log)[:after_epochs]:
        append_to_log(run.log, replace(epoch, epochs=9, eta_s=500.0))


def finish(workspace: Workspace, configuration: str, *folds: str) -> None:
    for fold in folds:
        shutil.copytree(workspace.run("3d", "fold0").folder, workspace.run(configuration, fold).folder)


def look(balls: Path, workspace: Workspace) -> tuple[Mapping[tuple[str, str], FoldStatus], pipeline.DatasetStatus]:
    found = pipeline.status(balls, work=workspace.root)
    return {(fold.configuration, fold.fold): fold for fold in found.folds}, found


def command(balls: Path, workspace: Workspace, *words: str) -> tuple[str, ...]:
    return ("nnlite", words[0], str(balls), *words[1:], "--work", str(workspace.root))


def test_every_planned_fold_has_a_state(balls: Path, workspace: Workspace):
    interrupt(workspace.run("3d", "fold3"), after_epochs=1, trained=workspace.run("3d", "fold0"))
    with locked(workspace.run("3d", "fold4")):
        states, found = look(balls, workspace)
    assert list(states) == [(name, fold) for name in ("2d", "3d") for fold in FOLDS]
    assert [states["3d", fold].state for fold in FOLDS] == ["done", "done", "missing", "unfinished", "running"]
    assert {states["2d", fold].state for fold in FOLDS} == {"missing"}
    done, unfinished, running = (states["3d", fold] for fold in ("fold0", "fold3", "fold4"))
    run = workspace.run("3d", "fold0")
    assert done.mean_dice == read_record(run.summary, Summary).foreground["dice"]
    assert (done.epoch, done.epochs, done.training_s) == (2, 2, read_log(run.log)[-1].elapsed_s)
    assert (unfinished.epoch, unfinished.epochs, unfinished.eta_s, unfinished.mean_dice) == (1, 9, None, None)
    assert (running.epoch, running.epochs) == (0, None)
    assert running.holder is not None
    # fold4 is running elsewhere, so the round is completed by naming what is left of it
    assert found.next_command == command(balls, workspace, "train", "3d", "fold2", "fold3", *SHORT)
    assert found.notes == ()


def test_a_running_training_tells_when_it_will_end(workspace: Workspace):
    run = workspace.run("3d", "fold3")
    interrupt(run, after_epochs=2, trained=workspace.run("3d", "fold0"))
    with locked(run):
        found = fold_status(run)
    assert (found.state, found.epoch, found.epochs) == ("running", 2, 9)
    assert found.eta_s is not None
    assert 400 < found.eta_s <= 500  # as the last epoch said, less the time since


def test_a_finished_network_whose_cases_are_not_scored_is_unfinished(workspace: Workspace):
    run = workspace.run("3d", "fold0")
    run.summary.unlink()
    assert fold_status(run).state == "unfinished"


def test_the_next_command_follows_what_was_begun(balls: Path, workspace: Workspace):
    assert look(balls, workspace)[1].next_command == command(balls, workspace, "train", "3d", "folds", *SHORT)
    finish(workspace, "3d", "fold2", "fold3", "fold4")
    assert look(balls, workspace)[1].next_command == command(balls, workspace, "select")
    workspace.selection.write_text("{}")
    assert look(balls, workspace)[1].next_command == command(balls, workspace, "report")
    workspace.report.write_text("<html></html>")
    predict = command(balls, workspace, "predict", "IMAGES", "-o", "MASKS")
    assert look(balls, workspace)[1].next_command == predict
    with locked(workspace.run("2d", "fold0")):
        assert look(balls, workspace)[1].next_command == command(
            balls, workspace, "train", "2d", "fold1", "fold2", "fold3", "fold4"
        )
    interrupt(workspace.run("2d", "all"), after_epochs=1, trained=workspace.run("3d", "fold0"))
    states, found = look(balls, workspace)
    assert states["2d", "all"].state == "unfinished"
    assert found.next_command == command(balls, workspace, "train", "2d", "all", *SHORT)
    finish(workspace, "2d", *FOLDS)
    with locked(workspace.run("2d", "all")):
        assert look(balls, workspace)[1].next_command is None


def test_the_rest_of_a_round_is_given_the_length_and_seed_of_what_was_begun(balls: Path, workspace: Workspace):
    config = workspace.run("3d", "fold0").config
    planned = read_plan(workspace).configuration("3d")
    begun = read_record(config, RunConfig)
    as_planned = replace(begun.train, epochs=planned.epochs, iterations=planned.iterations)
    for train, options in (
        (as_planned, ()),
        (replace(as_planned, time_budget_s=480.0, epochs=7), ("--time-budget", "480s")),
        (replace(as_planned, seed=3, iterations=7), ("--iterations", "7", "--seed", "3")),
        (replace(as_planned, loss="focal+dice", ema=0.9), ("--loss", "focal+dice", "--ema", "0.9")),
    ):
        write_record(config, replace(begun, train=train))
        assert look(balls, workspace)[1].next_command == command(balls, workspace, "train", "3d", "folds", *options)


def test_the_next_command_names_the_trackers_of_what_was_begun(balls: Path, workspace: Workspace):
    told = TrackerState(run_id=None, epochs=2)
    known = TrackingState(trackers={"wandb": told, "diary of my own": told, "tensorboard": told})
    write_record(workspace.run("3d", "fold0").tracking, known)
    tracked = ("--track", "tensorboard", "--track", "wandb")  # the third is no word for the command line
    assert look(balls, workspace)[1].next_command == command(balls, workspace, "train", "3d", "folds", *SHORT, *tracked)


def test_where_nothing_is_trained_the_finest_configuration_comes_first(balls: Path, workspace: Workspace):
    shutil.rmtree(workspace.runs)
    assert look(balls, workspace)[1].next_command == command(balls, workspace, "train", "3d", "folds")
    write_record(workspace.splits, make_splits(["ball_0"]))
    states, found = look(balls, workspace)
    assert list(states) == [("2d", "all"), ("3d", "all")]
    assert found.next_command == command(balls, workspace, "train", "3d", "all")


def test_a_dataset_that_changed_is_told_and_planned_first(balls: Path, workspace: Workspace):
    source = read_record(workspace.source, DatasetSource)
    assert source.cases is not None
    write_record(workspace.source, replace(source, cases={**source.cases, "ball_2": "other", "ball_9": "gone"}))
    _, found = look(balls, workspace)
    gone, edited = found.notes
    assert "1 case is no longer in the dataset (ball_9)" in gone
    assert edited == "1 case is of another size or date than when it was planned: ball_2"
    assert found.next_command == command(balls, workspace, "plan")


def test_what_changed_since_a_variant_was_planned_is_told_by_its_name(balls: Path, workspace: Workspace):
    source = read_record(workspace.source, DatasetSource)
    assert source.cases is not None
    shutil.copy(workspace.plan, workspace.plan_of("wide"))
    write_record(workspace.source, replace(source, variants={"wide": {**source.cases, "ball_9": "gone"}}))
    _, found = look(balls, workspace)
    [note] = found.notes
    assert note.startswith("the dataset has changed since the variant wide was planned: 1 case is no longer in the")
    assert note.endswith("nnlite plan --as wide again")
    assert found.next_command == command(balls, workspace, "train", "3d", "folds", *SHORT)


def test_a_run_of_a_configuration_that_is_no_longer_planned_is_shown_last(balls: Path, workspace: Workspace):
    finish(workspace, "3d-lowres", "fold0")
    assert list(look(balls, workspace)[0])[-1] == ("3d-lowres", "fold0")


def test_looking_needs_no_torch(balls: Path, workspace: Workspace):
    code = (
        "import sys\nfrom pathlib import Path\nfrom nnlite import pipeline\n"
        f"pipeline.status(Path({str(balls)!r}), work=Path({str(workspace.root)!r})); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

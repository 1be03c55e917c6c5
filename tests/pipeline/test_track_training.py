"""A tracked training hands on its settings, every epoch of its log, and the scores of what it held out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from nnlite import pipeline
from nnlite.data.records import read_record
from nnlite.errors import UsageError
from nnlite.evaluation.scores import Summary
from nnlite.training.curves import EpochRecord, read_log
from nnlite.training.tracking import TrackedRun
from nnlite.workspace import Workspace


class Notebook:
    """A tracker that remembers what it is told."""

    name = "notebook"

    def __init__(self) -> None:
        self.runs: list[TrackedRun] = []
        self.losses: list[tuple[int, float]] = []
        self.held_out: Mapping[str, float] = {}
        self.ends: list[bool] = []

    def start(self, run: TrackedRun) -> str:
        self.runs.append(run)
        return run.run_id or f"page {run.fold}"

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        self.losses.append((number, metrics["train_loss"]))

    def scores(self, number: int, metrics: Mapping[str, float]) -> None:
        self.held_out = metrics

    def end(self, *, finished: bool) -> None:
        self.ends.append(finished)


class PowerCutError(Exception):
    """Ends a training from outside."""


def cut_power(epoch: EpochRecord) -> None:
    raise PowerCutError


@pytest.fixture
def workspace(trained_work: Path, tmp_path: Path) -> Workspace:
    """A copy of the trained workspace, to be changed at will."""
    return Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")


def test_an_interrupted_training_is_tracked_as_one(balls: Path, workspace: Workspace):
    notebook = Notebook()
    asked = {"work": workspace.root, "device": "cpu", "track": (notebook,)}
    with pytest.raises(PowerCutError):
        pipeline.train(balls, "3d", ["fold3"], epochs=2, iterations=2, on_epoch=cut_power, **asked)
    assert (len(notebook.losses), notebook.held_out, notebook.ends) == (1, {}, [False])
    pipeline.train(balls, "3d", ["fold3", "fold0"], **asked)  # fold0 was finished before: nothing to tell

    run = workspace.run("3d", "fold3")
    assert notebook.losses == [(one.epoch, one.train_loss) for one in read_log(run.log)]
    assert [(one.name, one.run_id, one.epochs) for one in notebook.runs] == [
        ("3d fold3", None, 0),
        ("3d fold3", "page fold3", 1),
    ]
    assert notebook.ends == [False, True]
    summary = read_record(run.summary, Summary)
    assert notebook.held_out["held_out/dice"] == summary.foreground["dice"]
    assert notebook.held_out["held_out_dice/ball"] == summary.labels["ball"].dice.mean
    assert json.loads(run.tracking.read_text())["trackers"] == {"notebook": {"run_id": "page fold3", "epochs": 2}}


def test_a_tracker_gets_what_decides_the_training(balls: Path, workspace: Workspace):
    notebook = Notebook()
    pipeline.train(
        balls, "3d", ["all"], work=workspace.root, device="cpu", epochs=1, iterations=2, seed=6, track=(notebook,)
    )
    [run] = notebook.runs
    assert (run.dataset, run.folder) == ("balls", workspace.folder / "tracking")
    expected = {"configuration": "3d", "fold": "all", "device": "cpu", "epochs": 1, "iterations": 2, "seed": 6}
    assert {name: run.settings[name] for name in expected} == expected
    patch = pipeline.plan(balls, work=workspace.root, device="cpu", probe=False).plan.configuration("3d").patch_size
    assert run.settings["patch_size"] == "x".join(map(str, patch))
    assert (len(notebook.losses), notebook.held_out, notebook.ends) == (1, {}, [True])  # all holds nothing out


def test_an_unknown_tracker_is_refused_before_anything_is_trained(balls: Path, workspace: Workspace):
    with pytest.raises(UsageError, match='no tracker "tensorbord"'):
        pipeline.train(balls, "3d", ["fold2"], work=workspace.root, device="cpu", track=("tensorbord",))
    assert not workspace.run("3d", "fold2").folder.exists()

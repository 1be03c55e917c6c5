"""Each tracker hands a training to its own program; where that is not installed, it is said at once."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from nnlite.errors import UsageError
from nnlite.training.trackers import TRACKERS, tracker_named
from nnlite.training.tracking import TrackedRun


def run_of(folder: Path, **known: Any) -> TrackedRun:
    settings = {"patch_size": "16x16x16", "epochs": 3, "seed": 0}
    return TrackedRun(dataset="balls", configuration="3d", fold="fold0", folder=folder, settings=settings, **known)


def needed(package: str) -> None:
    pytest.importorskip(package, reason=f'needs {package}: pip install "nnlite[{package}]"')


def track_in_two_sittings(name: str, folder: Path) -> str | None:
    """Two epochs, an interruption, one more epoch and the scores; returns the run's id."""
    first = tracker_named(name)
    run_id = first.start(run_of(folder))
    for number in (0, 1):
        first.epoch(number, {"train_loss": 2.0 - number, "pseudo_dice/core (inner)": 0.25})
    first.end(finished=False)
    second = tracker_named(name)
    assert second.start(run_of(folder, run_id=run_id, epochs=2)) == run_id
    second.epoch(2, {"train_loss": 0.5})
    second.scores(2, {"held_out/dice": 0.75})
    second.end(finished=True)
    return run_id


def test_an_unknown_tracker_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match='no tracker "tensorbord"; --track takes tensorboard, mlflow, wandb'):
        tracker_named("tensorbord")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it(name: str, monkeypatch: pytest.MonkeyPatch):
    for module in [module for module in sys.modules if module.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)  # what an import finds where a package is not installed
    with pytest.raises(UsageError, match=rf'--track {name} needs a package .* pip install "nnlite\[{name}\]"'):
        tracker_named(name)


def test_tensorboard_shows_one_course_of_a_resumed_training(tmp_path: Path):
    needed("tensorboard")
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    track_in_two_sittings("tensorboard", tmp_path)
    course = events.EventAccumulator(str(tmp_path / "tensorboard" / "3d" / "fold0")).Reload()
    assert [(one.step, one.value) for one in course.Scalars("train_loss")] == [(0, 2.0), (1, 1.0), (2, 0.5)]
    assert [(one.step, one.value) for one in course.Scalars("held_out/dice")] == [(2, 0.75)]
    [settings, _] = course.Tensors("settings/text_summary")
    assert b"| patch_size | 16x16x16 |" in settings.tensor_proto.string_val[0]


def test_tensorboard_forgets_a_training_that_was_begun_anew(tmp_path: Path):
    needed("tensorboard")
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    track_in_two_sittings("tensorboard", tmp_path)
    anew = tracker_named("tensorboard")
    anew.start(run_of(tmp_path))
    anew.epoch(0, {"train_loss": 1.75})
    anew.end(finished=True)
    course = events.EventAccumulator(str(tmp_path / "tensorboard" / "3d" / "fold0")).Reload()
    assert [(one.step, one.value) for one in course.Scalars("train_loss")] == [(0, 1.75)]


def test_mlflow_keeps_one_run_of_a_resumed_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needed("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow = importlib.import_module("mlflow")
    run_id = track_in_two_sittings("mlflow", tmp_path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("balls").experiment_id
    [run] = client.search_runs([experiment])
    assert (run.info.run_id, run.info.run_name, run.info.status) == (run_id, "3d fold0", "FINISHED")
    assert run.data.params == {"patch_size": "16x16x16", "epochs": "3", "seed": "0"}
    losses = client.get_metric_history(run_id, "train_loss")
    assert [(one.step, one.value) for one in losses] == [(0, 2.0), (1, 1.0), (2, 0.5)]
    assert run.data.metrics["held_out/dice"] == 0.75
    assert run.data.metrics["pseudo_dice/core _inner_"] == 0.25


def test_wandb_keeps_both_sittings_for_the_same_run_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needed("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_id = track_in_two_sittings("wandb", tmp_path)
    kept = sorted(path.name for path in (tmp_path / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"))
    assert kept == [f"run-{run_id}.wandb"] * 2

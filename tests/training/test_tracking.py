"""Trackers get every epoch once, in its place, and can fail without harm."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nnlite.training.curves import EpochRecord, append_to_log
from nnlite.training.tracking import TrackedRun, epoch_metrics, tracked

LABELS = ("ball", "core")
FIRST = EpochRecord(
    epoch=0,
    epochs=4,
    learning_rate=0.01,
    train_loss=1.5,
    validation_loss=1.25,
    pseudo_dice=(0.5, None),
    mean_pseudo_dice=0.5,
    moving_pseudo_dice=0.5,
    duration_s=2.0,
    elapsed_s=2.0,
    data_wait_share=0.125,
    eta_s=6.0,
)


class ServerGoneError(Exception):
    """What a tracker's own library raises."""


class Notebook:
    """A tracker that remembers what it is told, and fails while ``broken``."""

    def __init__(self, name: str = "notebook") -> None:
        self.name = name
        self.broken = False
        self.runs: list[TrackedRun] = []
        self.pages: list[tuple[int, Mapping[str, float]]] = []
        self.ends: list[bool] = []

    def start(self, run: TrackedRun) -> str:
        self._check()
        self.runs.append(run)
        return "page 7"

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        self._check()
        self.pages.append((number, metrics))

    scores = epoch

    def end(self, *, finished: bool) -> None:
        self.ends.append(finished)

    def _check(self) -> None:
        if self.broken:
            raise ServerGoneError("no route to notebook")

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.pages]


class Sitting:
    """Epochs of one training, logged and tracked as the training loop does it."""

    def __init__(self, folder: Path) -> None:
        self.log, self.state = folder / "log.jsonl", folder / "tracking.json"
        self.run = TrackedRun(dataset="balls", configuration="3d", fold="fold0", folder=folder, settings={"seed": 3})

    def epochs(self, *numbers: int, trackers: tuple[Notebook, ...], scores: Mapping[str, float] | None = None) -> None:
        with tracked(trackers, self.run, labels=LABELS, log=self.log, state=self.state) as tracking:
            for number in numbers:
                epoch = replace(FIRST, epoch=number)
                append_to_log(self.log, epoch)
                tracking.epoch(epoch)
            if scores is not None:
                tracking.finish(scores)


@pytest.fixture
def sitting(tmp_path: Path) -> Sitting:
    return Sitting(tmp_path)


def test_a_tracker_gets_the_numbers_of_the_log_by_their_names_there():
    assert epoch_metrics(FIRST, LABELS) == {
        "learning_rate": 0.01,
        "train_loss": 1.5,
        "validation_loss": 1.25,
        "mean_pseudo_dice": 0.5,
        "moving_pseudo_dice": 0.5,
        "duration_s": 2.0,
        "elapsed_s": 2.0,
        "data_wait_share": 0.125,
        "eta_s": 6.0,
        "skipped_steps": 0,
        "pseudo_dice/ball": 0.5,
    }


def test_a_tracker_is_told_of_begin_epochs_scores_and_end(sitting: Sitting):
    notebook = Notebook()
    sitting.epochs(0, 1, trackers=(notebook,), scores={"held_out/dice": 0.75})
    [run] = notebook.runs
    assert (run.name, run.settings, run.run_id, run.epochs) == ("3d fold0", {"seed": 3}, None, 0)
    assert notebook.numbers == [0, 1, 1]
    assert notebook.pages[-1] == (1, {"held_out/dice": 0.75})
    assert notebook.ends == [True]


def test_a_resumed_training_goes_on_in_the_same_run_without_repeating_an_epoch(sitting: Sitting):
    sitting.epochs(0, 1, trackers=(Notebook(),))
    notebook = Notebook()
    sitting.epochs(2, 3, trackers=(notebook,), scores={"held_out/dice": 0.75})
    assert [(run.run_id, run.epochs) for run in notebook.runs] == [("page 7", 2)]
    assert notebook.numbers == [2, 3, 3]


def test_a_tracker_that_comes_late_gets_the_epochs_before_it(sitting: Sitting):
    early, late = Notebook("early"), Notebook("late")
    sitting.epochs(0, 1, trackers=(early,))
    sitting.epochs(2, trackers=(late,))
    assert late.numbers == [0, 1, 2]
    sitting.epochs(3, trackers=(early, late))
    assert (early.numbers, late.numbers) == ([0, 1, 2, 3], [0, 1, 2, 3])


def test_a_tracker_that_fails_is_told_of_once_and_gets_in_the_end_what_it_missed(
    sitting: Sitting, caplog: pytest.LogCaptureFixture
):
    notebook, other = Notebook(), Notebook("other")
    trackers = (notebook, other)
    with (
        caplog.at_level(logging.WARNING),
        tracked(trackers, sitting.run, labels=LABELS, log=sitting.log, state=sitting.state) as tracking,
    ):
        for number in range(4):
            notebook.broken = number in (1, 2)
            append_to_log(sitting.log, epoch := replace(FIRST, epoch=number))
            tracking.epoch(epoch)
        assert notebook.numbers == [0]
        tracking.finish({"held_out/dice": 0.75})
    assert notebook.numbers == other.numbers == [0, 1, 2, 3, 3]
    [warning] = caplog.messages
    assert warning.startswith(
        "3d fold0: tracking with notebook failed, and the training goes on without it (ServerGone"
    )
    assert "no route to notebook" in warning


def test_a_tracker_that_cannot_begin_stops_nothing(sitting: Sitting, caplog: pytest.LogCaptureFixture):
    notebook = Notebook()
    notebook.broken = True
    sitting.epochs(0, 1, trackers=(notebook,), scores={})
    assert len(caplog.messages) == 1
    assert (notebook.pages, notebook.ends) == ([], [])
    later = Notebook()
    sitting.epochs(2, trackers=(later,))
    assert (later.runs[0].run_id, later.numbers) == (None, [0, 1, 2])


def test_a_tracker_learns_that_its_training_was_interrupted(sitting: Sitting):
    notebook = Notebook()
    with (
        pytest.raises(KeyboardInterrupt),
        tracked((notebook,), sitting.run, labels=LABELS, log=sitting.log, state=sitting.state),
    ):
        raise KeyboardInterrupt
    assert notebook.ends == [False]


def test_without_trackers_nothing_is_written(sitting: Sitting):
    sitting.epochs(0, trackers=(), scores={"held_out/dice": 0.75})
    assert not sitting.state.exists()

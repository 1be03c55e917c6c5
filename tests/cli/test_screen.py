"""What a terminal shows while work is going on, and numbers as people write them."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from nnlite.cli.screen import ProgressBars, fraction, words_for_seconds


def bars_on_a_terminal() -> tuple[ProgressBars, Progress]:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    columns = (TextColumn("{task.description}"), TextColumn("{task.fields[detail]}"))
    progress = Progress(*columns, console=console, auto_refresh=False)
    return ProgressBars(progress), progress


def test_each_stage_has_one_bar_that_grows():
    bars, progress = bars_on_a_terminal()
    for what, done in (("read", 1), ("read", 2), ("plan", 1)):
        bars(what, done, 4)
    assert [(task.description, task.completed, task.total) for task in progress.tasks] == [
        ("read", 2, 4),
        ("plan", 1, 4),
    ]
    assert progress.tasks[0].fields["detail"] == "2/4"


def test_a_training_bar_tells_loss_pseudo_dice_waiting_and_time_left():
    bars, progress = bars_on_a_terminal()
    record = SimpleNamespace(
        epoch=4, epochs=10, train_loss=-0.25, mean_pseudo_dice=0.8, data_wait_share=0.031, eta_s=90.0
    )
    bars.epoch("3d fold0", record)  # type: ignore[arg-type]
    (task,) = progress.tasks
    assert (task.completed, task.total) == (5, 10)  # epochs are counted from 0 on disk and from 1 on screen
    assert task.fields["detail"] == ("epoch 5/10  loss -0.250  pseudo Dice 0.800  waiting for data 3%  ETA 1 min 30 s")


def test_a_bar_follows_a_total_that_is_foreseen_anew():
    bars, progress = bars_on_a_terminal()
    for total in (10, 8):
        bars("training", 4, total)
    assert progress.tasks[0].total == 8


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (3599.4, "59 min 59 s"), (7260, "2 h 01 min")],
)
def test_durations_are_written_in_their_two_largest_units(seconds: float, words: str):
    assert words_for_seconds(seconds) == words


def test_an_absent_score_is_a_dash():
    assert [fraction(None), fraction(float("nan")), fraction(0.0)] == ["-", "-", "0.000"]

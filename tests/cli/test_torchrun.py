"""Under torchrun the first process trains and speaks, the others follow it and tell of errors alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fake_pipeline import FakePipeline, nn, trained

from nnlite.cli import screen, torchrun
from nnlite.cli.torchrun import Place
from nnlite.errors import ProcessLostError, StoppedError, UsageError
from nnlite.training.ranks import Ranks

VARIABLES = {"LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node1"}


@pytest.fixture
def started(pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePipeline]:
    """As torchrun starts a process; its number is yet to be set."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(screen, "SPEAKER", screen.Speaker())
    logger = logging.getLogger("nnlite")
    level = logger.level

    @contextmanager
    def processes(number: int, count: int, *, local_number: int, device: str) -> Iterator[Ranks]:
        pipeline.calls.append(("processes", (number, count), {"local_number": local_number, "device": device}))
        yield Ranks(number, count)

    pipeline.processes = processes
    pipeline.follow = pipeline._verb("follow")
    yield pipeline
    logger.setLevel(level)


def test_without_torchrun_or_with_one_process_there_is_no_place(monkeypatch: pytest.MonkeyPatch):
    for name in (*VARIABLES, "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert torchrun.place() is None
    for name, value in (VARIABLES | {"RANK": "0", "WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    assert torchrun.place() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert torchrun.place() == Place(number=0, local_number=1, count=2)


def test_the_first_process_trains_and_shows_how_it_ended(started: FakePipeline, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "0")
    started.answers["train"] = (trained(),)
    shown = nn("train", "brain", "3d", "fold0", "--device", "cpu")
    assert "3d fold0: mean Dice 0.871" in shown.stdout
    assert [verb for verb, _, _ in started.calls] == ["processes", "train"]
    assert started.calls[0][1:] == ((0, 4), {"local_number": 1, "device": "cpu"})
    assert started.calls[1][2]["ranks"].count == 4


def test_the_others_follow_in_silence(started: FakePipeline, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "3")
    started.answers["follow"] = None
    shown = nn("train", "brain", "3d", "folds", "--device", "cpu")
    assert [verb for verb, _, _ in started.calls] == ["processes", "follow"]
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UsageError("there is no room"), "error in process 3 of 4: there is no room\n"),
        (ProcessLostError("another is gone"), "error in process 3 of 4: another is gone\n"),
    ],
)
def test_errors_of_the_others_name_their_process(
    error: Exception, told: str, started: FakePipeline, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RANK", "3")
    started.answers["follow"] = error
    shown = nn("train", "brain", "3d", "fold0")
    assert (shown.exit_code, shown.stderr) == (2, told)


def test_who_was_asked_to_stop_and_loses_the_others_ends_as_they_do(
    started: FakePipeline, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RANK", "3")

    def follow(*arguments: Any, stop: Any, **options: Any) -> None:
        stop.receive(15, None)
        raise ProcessLostError("another is gone")

    started.answers["follow"] = follow
    assert nn("train", "brain", "3d", "fold0").exit_code == 143
    started.answers["follow"] = StoppedError("3d fold0 was stopped")
    shown = nn("train", "brain", "3d", "fold0")
    assert (shown.exit_code, shown.stderr) == (130, "")


def test_torchrun_and_a_cluster_exclude_each_other(started: FakePipeline, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "0")
    shown = nn("train", "brain", "3d", "folds", "--cluster", "local")
    assert shown.exit_code == 2
    assert "use one of them" in shown.stderr

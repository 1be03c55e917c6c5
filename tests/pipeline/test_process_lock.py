"""A lock has one holder at a time, and none that is dead keeps it."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nnlite.data.records import read_record, write_record
from nnlite.errors import WorkspaceError
from nnlite.pipeline.process_lock import VOID_AFTER_S, LockHolder, hold, holder_of, is_this_process, wait_and_hold


def busy(holder: LockHolder) -> WorkspaceError:
    return WorkspaceError(f"busy: {holder}")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "there" / "some.lock"


@pytest.fixture
def holder(lock: Path) -> LockHolder:
    """This process, as it writes itself down."""
    with hold(lock, busy=busy):
        return read_record(lock, LockHolder)


def test_who_holds_a_lock_is_known_as_long_as_it_does(lock: Path):
    assert holder_of(lock) is None
    with hold(lock, busy=busy):
        found = holder_of(lock)
        assert found is not None
        assert is_this_process(found)
    assert holder_of(lock) is None
    assert list(lock.parent.iterdir()) == []


def test_a_lock_of_another_machine_is_void_when_nobody_renews_it(lock: Path, holder: LockHolder):
    write_record(lock, replace(holder, host="node17"))
    assert holder_of(lock) is not None
    old = lock.stat().st_mtime - VOID_AFTER_S - 60
    os.utime(lock, (old, old))
    assert holder_of(lock) is None
    with hold(lock, busy=busy):
        assert read_record(lock, LockHolder).host == holder.host
    assert list(lock.parent.iterdir()) == []


def test_who_holds_a_lock_renews_it(lock: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nnlite.pipeline.process_lock.RENEW_EVERY_S", 0.01)
    with hold(lock, busy=busy):
        os.utime(lock, (0, 0))
        deadline = time.monotonic() + 10
        while lock.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.stat().st_mtime > 0


def _take_turns(lock: Path, log: Path, barrier) -> None:
    barrier.wait()
    with wait_and_hold(lock, waiting=lambda holder: None):
        with log.open("a") as file:
            file.write("in\n")
        time.sleep(0.05)
        with log.open("a") as file:
            file.write("out\n")


@pytest.mark.parametrize("stale", [False, True])
def test_processes_that_come_together_go_in_one_by_one(
    stale: bool, lock: Path, holder: LockHolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nnlite.pipeline.process_lock.LOOK_AGAIN_S", 0.01)
    if stale:  # all of them find the file of a process that is no more
        write_record(lock, replace(holder, process_started_s=holder.process_started_s - 60))
    fork = multiprocessing.get_context("fork")
    barrier, log = fork.Barrier(4), tmp_path / "log"
    processes = [fork.Process(target=_take_turns, args=(lock, log, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert log.read_text().split() == ["in", "out"] * 4


def test_who_waits_says_so_once_and_then_goes_in(lock: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nnlite.pipeline.process_lock.LOOK_AGAIN_S", 0.01)
    told: list[LockHolder] = []
    inside, done = threading.Event(), threading.Event()

    def first() -> None:
        with hold(lock, busy=busy):
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    threading.Timer(0.2, done.set).start()
    with wait_and_hold(lock, waiting=told.append):
        assert done.is_set()
    thread.join()
    assert [one.pid for one in told] == [os.getpid()]

"""One process at a time: a small file says which one is at work somewhere, and goes away with it.

A process that was killed leaves its file behind. On the same machine that is noticed (the process is gone, or its
number belongs to one that started at another time). On another machine of a cluster it is noticed by the file's date:
who holds a lock renews it, and a lock that nobody renews is void after some minutes. The file appears whole, and who
looks and who takes it are one at a time, so two processes never both believe that they hold it.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from nnlite.data.records import read_record, record, to_json, write_text
from nnlite.errors import WorkspaceError

CLOCK_TOLERANCE_S = 2.0  # psutil derives a process's start from the boot time, which moves when the clock is set
RENEW_EVERY_S = 30.0
VOID_AFTER_S = 300.0  # ten renewals missed: longer than a busy file server keeps anyone waiting
LOOK_AGAIN_S = 0.5  # how often who waits looks


@record
class LockHolder:
    """The process that holds a lock; ``process_started_s`` (since 1970) tells it from a later one of its number."""

    host: str
    pid: int
    process_started_s: float
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def hold(path: Path, *, busy: Callable[[LockHolder], WorkspaceError]) -> Iterator[None]:
    """Hold the lock ``path`` while the block runs; what ``busy`` says of its holder is raised if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if (holder := _take(path)) is not None:
        raise busy(holder)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, done), name="lock", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        path.unlink(missing_ok=True)


@contextmanager
def wait_and_hold(path: Path, *, waiting: Callable[[LockHolder], None]) -> Iterator[None]:
    """The same, but wait as long as another process holds it; ``waiting`` is told of each such process once."""
    told: LockHolder | None = None
    while True:
        try:
            with hold(path, busy=_Busy):
                yield
                return
        except _Busy as error:
            if error.holder != told:
                told = error.holder
                waiting(told)
        time.sleep(LOOK_AGAIN_S)


class _Busy(WorkspaceError):  # noqa: N818 (never leaves this module)
    def __init__(self, holder: LockHolder):
        super().__init__(str(holder))
        self.holder = holder


def holder_of(path: Path) -> LockHolder | None:
    """The process that holds a lock; None if there is none, or none any more."""
    try:
        holder = read_record(path, LockHolder)
    except WorkspaceError:  # not there, or damaged
        return None
    if holder.host != platform.node():
        return holder if _age_s(path) < VOID_AFTER_S else None
    try:
        process = psutil.Process(holder.pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        same = abs(process.create_time() - holder.process_started_s) < CLOCK_TOLERANCE_S
    except psutil.NoSuchProcess:
        return None
    return holder if alive and same else None


def is_this_process(holder: LockHolder) -> bool:
    """Whether a lock is held by who asks."""
    return holder.host == platform.node() and holder.pid == os.getpid()


def _take(path: Path) -> LockHolder | None:
    """Take a lock; returns its holder where that is impossible."""
    with _one_at_a_time(path.parent):
        if (holder := holder_of(path)) is not None:
            return holder
        write_text(path, to_json(_this_process()))
        return None


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let only one process decide about the locks of a folder; the system ends this with the process.

    Where the system cannot lock a folder (Windows, some file servers) the moment between looking and taking remains.
    """
    descriptor = _locked_descriptor(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked_descriptor(folder: Path) -> int | None:
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _renew(path: Path, done: threading.Event) -> None:
    while not done.wait(RENEW_EVERY_S):
        with suppress(OSError):  # the next time may go well
            os.utime(path)


def _age_s(path: Path) -> float:
    """Seconds since a file was renewed, by the clock of the file system: machines may disagree."""
    beside = path.with_name(f".clock-{platform.node()}-{os.getpid()}")
    try:
        beside.touch()
        return beside.stat().st_mtime - path.stat().st_mtime
    except OSError:  # gone meanwhile, or a folder that may only be read
        return 0.0
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _this_process() -> LockHolder:
    process = psutil.Process()
    return LockHolder(
        host=platform.node(),
        pid=process.pid,
        process_started_s=process.create_time(),
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )

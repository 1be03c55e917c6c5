"""One training per folder: a small file says which process is at work there, and goes away with it.

A process that was killed leaves its file behind. On the same machine that is noticed (the process is gone, or its
number belongs to one that started at another time) and the file is replaced; of another machine nothing can be known.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import psutil

from nnlite.data.records import read_record, record, to_json
from nnlite.errors import WorkspaceError
from nnlite.workspace import RunFolder

CLOCK_TOLERANCE_S = 2.0  # psutil derives a process's start from the boot time, which moves when the clock is set


@record
class LockHolder:
    """The process that trains in a folder; ``process_started_s`` (since 1970) tells it from a later one."""

    host: str
    pid: int
    process_started_s: float
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Keep other processes out of a run's folder while the block runs; ``WorkspaceError`` if one is there already."""
    run.folder.mkdir(parents=True, exist_ok=True)
    if (holder := lock_holder(run)) is not None:
        raise _busy(run, holder)
    run.lock.unlink(missing_ok=True)  # of a process that is no more
    try:
        descriptor = os.open(run.lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError as error:
        raise _busy(run, lock_holder(run)) from error  # another process was a little faster
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(to_json(_this_process()))
        yield
    finally:
        run.lock.unlink(missing_ok=True)
        with suppress(OSError):
            run.folder.rmdir()  # nothing was begun in it


def lock_holder(run: RunFolder) -> LockHolder | None:
    """The process that trains in a run's folder; None if there is none, or none any more."""
    try:
        holder = read_record(run.lock, LockHolder)
    except WorkspaceError:  # not there, or cut off with the process that wrote it
        return None
    if holder.host != platform.node():
        return holder
    try:
        process = psutil.Process(holder.pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        same = abs(process.create_time() - holder.process_started_s) < CLOCK_TOLERANCE_S
    except psutil.NoSuchProcess:
        return None
    return holder if alive and same else None


def _this_process() -> LockHolder:
    process = psutil.Process()
    return LockHolder(
        host=platform.node(),
        pid=process.pid,
        process_started_s=process.create_time(),
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _busy(run: RunFolder, holder: LockHolder | None) -> WorkspaceError:
    return WorkspaceError(
        f"{run.configuration} {run.fold} is being trained by {holder or 'another process'}; let it finish, or stop it; "
        f"if it is gone, delete {run.lock}"
    )

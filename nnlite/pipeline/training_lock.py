"""One training per folder, and no two processes that prepare, replace or select the same things at a time."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnlite.data.leftovers import clear_leftovers
from nnlite.errors import WorkspaceError
from nnlite.pipeline.process_lock import LockHolder, hold, holder_of, is_this_process, wait_and_hold
from nnlite.workspace import RunFolder, Workspace

logger = logging.getLogger(__name__)


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Keep other processes out of a run's folder while the block runs; ``WorkspaceError`` if one is there already."""

    def busy(holder: LockHolder) -> WorkspaceError:
        return WorkspaceError(
            f"{run.configuration} {run.fold} is being trained by {holder}; let it finish, or stop it; "
            f"if it is gone, delete {run.lock}"
        )

    try:
        with hold(run.lock, busy=busy):
            clear_leftovers(run.folder, alone=True)
            yield
    finally:
        with suppress(OSError):
            run.folder.rmdir()  # nothing was begun in it


def lock_holder(run: RunFolder) -> LockHolder | None:
    """The process that trains in a run's folder; None if there is none, or none any more."""
    return holder_of(run.lock)


@contextmanager
def preprocessing(workspace: Workspace) -> Iterator[None]:
    """Be the only process that writes preprocessed cases; wait for another one that does."""
    with wait_and_hold(workspace.preprocessing_lock, waiting=_told("preprocessing", workspace.preprocessing_lock)):
        yield


@contextmanager
def selecting(workspace: Workspace) -> Iterator[None]:
    """Be the only process that selects; wait for another one that does."""
    with wait_and_hold(workspace.selecting_lock, waiting=_told("selecting", workspace.selecting_lock)):
        yield


@contextmanager
def cases_in_use(workspace: Workspace, configuration: str) -> Iterator[None]:
    """Say that this process reads the preprocessed cases of a configuration, so that no other one replaces them."""
    mark = workspace.cases_in_use(configuration) / f"{platform.node()}-{os.getpid()}.lock"
    holder = holder_of(mark)
    if holder is not None:  # said already, further out
        yield
        return
    try:
        with hold(mark, busy=lambda other: WorkspaceError(f"{mark} is held by {other}")):
            yield
    finally:
        with suppress(OSError):
            mark.parent.rmdir()  # unless others read them, too
            mark.parent.parent.rmdir()  # unless there are cases


def refuse_cases_in_use(workspace: Workspace, configuration: str) -> None:
    """Raise ``WorkspaceError`` if another process reads the preprocessed cases of a configuration."""
    for mark in sorted(workspace.cases_in_use(configuration).glob("*.lock")):
        holder = holder_of(mark)
        if holder is not None and not is_this_process(holder):
            raise WorkspaceError(
                f"the preprocessed cases of {configuration} were made for another plan, and {holder} uses them; let it "
                f"finish, or use another --work; if it is gone, delete {mark}"
            )


def _told(what: str, lock: Path) -> Callable[[LockHolder], None]:
    """What logs for whom this process waits."""

    def waiting(holder: LockHolder) -> None:
        logger.warning("waiting for %s, which is %s; if it is gone, delete %s", holder, what, lock)

    return waiting

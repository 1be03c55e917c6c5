"""Clear away what killed processes were writing: files that ``written_whole`` began and nobody will finish."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from nnlite.data.records import WRITING

ABANDONED_S = 600.0  # of a process on another machine nothing is known, but it would have written on by then


def clear_leftovers(folder: Path, *, alone: bool) -> None:
    """Remove half-written files of processes that are no more from a folder, not from those below it.

    ``alone`` says that the caller keeps others out of the folder: then all of them are left over. Otherwise those stay
    whose process lives, or that were written to within ``ABANDONED_S``.
    """
    for path in folder.glob(f"{WRITING}*"):
        number = path.name.removeprefix(WRITING).partition("-")[0]
        if not alone and (psutil.pid_exists(int(number)) or _changed_s_ago(path) < ABANDONED_S):
            continue
        path.unlink(missing_ok=True)


def _changed_s_ago(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # finished meanwhile
        return 0.0

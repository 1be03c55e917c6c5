"""What a killed process was writing goes; what a living one writes stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nnlite.data.leftovers import ABANDONED_S, clear_leftovers
from nnlite.data.records import WRITING, written_whole


def leftover(folder: Path, process: int, *, age_s: float = 0.0) -> Path:
    """A file that a process was writing some time ago."""
    path = folder / f"{WRITING}{process}-x.nii.gz"
    path.write_text("half")
    moment = path.stat().st_mtime - age_s
    os.utime(path, (moment, moment))
    return path


def dead_process() -> int:
    """The number of a process that has just ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_where_nobody_else_writes_all_that_is_half_written_goes(tmp_path: Path):
    leftover(tmp_path, os.getpid())
    (tmp_path / "mask.nii.gz").write_text("whole")
    clear_leftovers(tmp_path, alone=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]


def test_where_others_may_write_only_old_files_of_dead_processes_go(tmp_path: Path):
    dead = dead_process()
    kept = [leftover(tmp_path, os.getpid(), age_s=2 * ABANDONED_S), leftover(tmp_path, dead)]
    clear_leftovers(tmp_path, alone=False)
    assert all(path.exists() for path in kept)
    leftover(tmp_path, dead, age_s=2 * ABANDONED_S)
    clear_leftovers(tmp_path, alone=False)
    assert [path.exists() for path in kept] == [True, False]


def test_what_this_process_is_writing_bears_its_number(tmp_path: Path):
    with written_whole(tmp_path / "mask.nii.gz") as beside:
        assert beside.name.startswith(f"{WRITING}{os.getpid()}-")
        clear_leftovers(tmp_path, alone=False)
        assert beside.exists()


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path: Path):
    clear_leftovers(tmp_path / "nowhere", alone=True)
    assert list(tmp_path.iterdir()) == []

"""One training per folder, whatever became of the process that was there before."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nnlite.data.records import read_record, write_record
from nnlite.errors import WorkspaceError
from nnlite.pipeline.process_lock import LockHolder
from nnlite.pipeline.training_lock import cases_in_use, lock_holder, locked, refuse_cases_in_use
from nnlite.workspace import RunFolder, Workspace


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(folder=tmp_path / "runs" / "3d" / "fold0")


@pytest.fixture
def holder(run: RunFolder) -> LockHolder:
    """This process, as it writes itself down."""
    with locked(run):
        return read_record(run.lock, LockHolder)


def test_a_folder_is_locked_as_long_as_the_block_runs(run: RunFolder):
    assert lock_holder(run) is None
    with locked(run):
        found = lock_holder(run)
        assert found is not None
        assert found.pid == os.getpid()
        with pytest.raises(WorkspaceError, match=f"3d fold0 is being trained by process {os.getpid()} on"), locked(run):
            pass
        assert lock_holder(run) == found
    assert lock_holder(run) is None


def test_an_error_unlocks_the_folder_and_what_was_begun_stays(run: RunFolder):
    with pytest.raises(KeyboardInterrupt), locked(run):
        raise KeyboardInterrupt
    assert not run.folder.exists()  # nothing was begun in it
    run.folder.mkdir()
    run.config.write_text("{}")
    with pytest.raises(KeyboardInterrupt), locked(run):
        raise KeyboardInterrupt
    assert list(run.folder.iterdir()) == [run.config]


def test_another_process_is_kept_out(run: RunFolder):
    code = (
        "import sys\nfrom pathlib import Path\nfrom nnlite.pipeline.training_lock import locked\n"
        "from nnlite.workspace import RunFolder\n"
        f"with locked(RunFolder(folder=Path({str(run.folder)!r}))):\n    print('here', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "here\n"
        with pytest.raises(WorkspaceError, match=f"being trained by process {other.pid} on"), locked(run):
            pass
        other.kill()  # and so its file stays behind
    assert run.lock.exists()
    assert lock_holder(run) is None
    with locked(run):
        assert read_record(run.lock, LockHolder).pid == os.getpid()


def test_the_number_of_a_dead_process_may_belong_to_another_one_now(run: RunFolder, holder: LockHolder):
    write_record(run.lock, replace(holder, process_started_s=holder.process_started_s - 60))
    assert lock_holder(run) is None


def test_a_process_of_another_machine_is_believed(run: RunFolder, holder: LockHolder):
    dead = next(pid for pid in range(4_000_000, 5_000_000) if not psutil.pid_exists(pid))
    write_record(run.lock, replace(holder, pid=dead))
    assert lock_holder(run) is None
    write_record(run.lock, replace(holder, pid=dead, host="node17"))
    with pytest.raises(WorkspaceError, match=rf"process {dead} on node17 since .*if it is gone, delete .*\.lock"):
        locked(run).__enter__()


def test_a_file_that_was_cut_off_locks_nothing(run: RunFolder):
    run.folder.mkdir(parents=True)
    run.lock.write_text('{"host": "no')
    with locked(run):
        assert lock_holder(run) is not None


def test_half_written_files_of_a_killed_training_go_when_the_next_one_begins(run: RunFolder):
    run.folder.mkdir(parents=True)
    (run.folder / ".writing-17-x.pt").write_text("half")
    with locked(run):
        assert [path.name for path in run.folder.iterdir()] == ["training.lock"]


def test_cases_that_another_process_uses_are_not_replaced(tmp_path: Path, holder: LockHolder):
    workspace = Workspace(root=tmp_path, dataset="brain")
    with cases_in_use(workspace, "3d"), cases_in_use(workspace, "3d"):
        refuse_cases_in_use(workspace, "3d")  # this process may
        [mark] = workspace.cases_in_use("3d").iterdir()
        write_record(mark.with_name("node17-4.lock"), replace(holder, host="node17"))
        with pytest.raises(WorkspaceError, match=r"cases of 3d were made for another plan, and process \d+ on node17"):
            refuse_cases_in_use(workspace, "3d")
        refuse_cases_in_use(workspace, "2d")
    mark.with_name("node17-4.lock").unlink()
    with cases_in_use(workspace, "3d"):
        pass
    assert not workspace.cases("3d").exists()  # no empty folder stays

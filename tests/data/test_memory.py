"""Free memory is that of the machine, or what the control groups around this process leave."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nnlite.data.memory import free_memory_bytes

MIB = 2**20


def group(folder: Path, limit: str, used: int, files: int, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    kept = "inactive_file" if version == 2 else "total_inactive_file"
    for name, text in zip((*names, "memory.stat"), (limit, str(used), f"anon 1\n{kept} {files}"), strict=True):
        (folder / name).write_text(text + "\n")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "self"
    path.write_text("0::/slurm/job_7/step_0\n")
    return path


def test_without_limits_it_is_what_the_machine_has(tmp_path: Path, own: Path):
    group(tmp_path / "groups", "max", 5 * MIB, 0)
    free = psutil.virtual_memory().available
    assert free_memory_bytes(tmp_path / "groups", own) == pytest.approx(free, rel=0.2)
    assert free_memory_bytes(tmp_path / "groups", tmp_path / "no such file") == pytest.approx(free, rel=0.2)


def test_the_tightest_group_around_the_process_decides_and_files_can_be_given_back(tmp_path: Path, own: Path):
    groups = tmp_path / "groups"
    group(groups / "slurm" / "job_7" / "step_0", "max", 9 * MIB, 0)
    group(groups / "slurm" / "job_7", str(10 * MIB), 9 * MIB, 3 * MIB)
    group(groups / "slurm", str(100 * MIB), 50 * MIB, 0)
    group(groups / "slurm" / "job_8", str(MIB), MIB, 0)  # of somebody else
    assert free_memory_bytes(groups, own) == 10 * MIB - 9 * MIB + 3 * MIB


def test_groups_of_version_1_are_known_too(tmp_path: Path):
    own = tmp_path / "self"
    own.write_text("9:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n")
    group(tmp_path / "groups" / "memory", str(8 * MIB), 6 * MIB, MIB, version=1)  # all that a container sees
    assert free_memory_bytes(tmp_path / "groups", own) == 3 * MIB


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path: Path, own: Path):
    group(tmp_path / "groups", str(MIB), 2 * MIB, 0)
    assert free_memory_bytes(tmp_path / "groups", own) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")
def test_freed_memory_is_kept_for_what_comes_next_in_every_thread():
    script = """
import resource
from threading import Thread
from nnlite.data.memory import keep_freed_memory

size = 80 * 2**20  # not a constant that is computed beforehand

def count_faults():
    b"x" * size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        b"x" * size  # written to: 20480 pages
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

count_faults()
keep_freed_memory()
count_faults()
thread = Thread(target=count_faults)
thread.start()
thread.join()
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    given_back, kept, kept_by_thread = map(int, told.stdout.split())
    assert max(kept, kept_by_thread) < given_back / 10

"""Main memory: how much is free for this process, and how it keeps what it has.

Free is what the machine has, or what a container or batch job leaves of it.

Limits are those of Linux control groups (docs.kernel.org/admin-guide/cgroup-v2, and v1 "memory"): of the group of this
process and of all around it. What is kept of files can be given back, so it counts as free.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
# limit, use, and the name in memory.stat of what can be given back: version 2, then version 1
FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)

# mallopt(3) of the GNU C library: a number of what is set, and a C int for it
LARGEST_KEPT = (-3, 2**30)  # M_MMAP_THRESHOLD: what is larger is given back to the system at once
MOST_KEPT = (-1, 2**31 - 1)  # M_TRIM_THRESHOLD: so much may lie free at the end of the heap
HEAPS = (-8, 1)  # M_ARENA_MAX: threads share one, for those of their own are too small for such tensors


def keep_freed_memory() -> None:
    """Let this process keep freed memory for what comes next, instead of giving it back to the system each time.

    A network on a CPU allocates and frees tensors of many MiB for every layer. The GNU C library takes each from the
    system and gives it back, and the system clears every page of it before its first use: a quarter of the time of a
    prediction (docs/decisions/cpu-windows.md). Other C libraries are left as they are. May be called again and again.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter in (LARGEST_KEPT, MOST_KEPT, HEAPS):
        mallopt(*parameter)


def free_memory_bytes(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Bytes that this process may still take, at most."""
    return max(0, min([psutil.virtual_memory().available, *_left_by_groups(groups, own)]))


def _left_by_groups(groups: Path, own: Path) -> Iterator[int]:
    for folder in _folders(groups, own):
        for limit, use, reclaimable in FILES:
            most, used = _number(folder / limit), _number(folder / use)
            if most is not None and used is not None:
                yield most - used + _stat(folder / "memory.stat", reclaimable)


def _folders(groups: Path, own: Path) -> Iterator[Path]:
    """The control groups that this process is in, from the inner to the outer; a container sees its own as root."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # another system
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = groups / "memory" if "memory" in controllers.split(",") else groups
        if controllers and root == groups:
            continue
        inner = root / path.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder == root or root in folder.parents)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max": no limit


def _stat(path: Path, name: str) -> int:
    try:
        pairs = dict(line.split() for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(pairs.get(name, 0))

"""How much main memory is free for this process: that of the machine, or what a container or batch job leaves of it.

Limits are those of Linux control groups (docs.kernel.org/admin-guide/cgroup-v2, and v1 "memory"): of the group of this
process and of all around it. What is kept of files can be given back, so it counts as free.
"""

from __future__ import annotations

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

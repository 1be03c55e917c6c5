"""What a full disk looks like to a program; shared by the tests of what is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def disk_for_1_kb() -> Iterator[None]:
    """No file may grow beyond a kilobyte: what a full disk looks like to a program.

    Not a fixture: pytest may be writing its own report into a file, before a fixture is torn down.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

"""Cases that are read again and again: kept open, and small datasets in memory.

To find, open and map the file of a case takes longer than to read a patch from it. What is kept open is bounded: each
mapped case holds a file handle, of which a process has about a thousand.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nnlite.data.memory import free_memory_bytes
from nnlite.preprocessing.store import OpenCase, StoredCase

OPEN_CASES = 160  # for training and for validation: a third of the 1024 handles that most systems grant
MEMORY_SHARE = 0.25  # of the free memory that cases may take; the rest belongs to batches, network and everyone else
MEMORY_LIMIT_GIB = 4.0  # several trainings may begin at once, and each sees the same free memory


class OpenCases:
    """Stored cases by their id, opened when first asked for; may be used by several threads at a time.

    With ``in_memory`` every case is read whole, once, and kept. Otherwise the last ``OPEN_CASES`` stay open.
    """

    def __init__(self, cases: Mapping[str, StoredCase], *, in_memory: bool = False):
        self.in_memory = in_memory
        self._cases = cases
        self._open: OrderedDict[str, OpenCase] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, case_id: str) -> OpenCase:
        with self._lock:
            if case_id in self._open:
                self._open.move_to_end(case_id)
                return self._open[case_id]
        opened = _opened(self._cases[case_id], in_memory=self.in_memory)  # others need not wait for the disk
        with self._lock:
            self._open[case_id] = opened
            if not self.in_memory and len(self._open) > OPEN_CASES:
                self._open.popitem(last=False)
        return opened


def fit_in_memory(*datasets: Mapping[str, StoredCase]) -> bool:
    """Whether all these cases together are small enough to be kept in memory.

    They may take ``MEMORY_SHARE`` of what is free now, and no more than ``MEMORY_LIMIT_GIB``.
    """
    left = min(free_memory_bytes() * MEMORY_SHARE, MEMORY_LIMIT_GIB * 2**30)
    for case in (case for cases in datasets for case in cases.values()):
        left -= case.size_bytes
        if left < 0:
            return False  # without a look at the thousands that may follow
    return True


def _opened(case: StoredCase, *, in_memory: bool) -> OpenCase:
    opened = case.mapped()
    if not in_memory:
        return opened
    locations = opened.locations
    if locations is not None:
        locations = replace(locations, voxels=_read(locations.voxels), ends=_read(locations.ends))
    return OpenCase(
        image=_read(opened.image),
        label=None if opened.label is None else _read(opened.label),
        previous=None if opened.previous is None else _read(opened.previous),
        locations=locations,
        drawn=None if opened.drawn is None else _read(opened.drawn),
    )


def _read(mapped: np.ndarray) -> np.ndarray:
    """A copy in memory, as little to be written to as the map."""
    array = np.array(mapped)
    array.flags.writeable = False
    return array

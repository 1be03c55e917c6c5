"""Cases stay open as long as there is room, in memory where they are few, and give what is stored."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
from tiny import store_cases

from nnlite.preprocessing import open_cases
from nnlite.preprocessing.open_cases import OpenCases, fit_in_memory


@pytest.mark.parametrize("in_memory", [False, True])
def test_an_open_case_is_the_stored_one_and_cannot_be_written_to(in_memory: bool, tmp_path: Path) -> None:
    stored = store_cases(tmp_path, cascade=True)
    for case_id, opened in ((case_id, OpenCases(stored, in_memory=in_memory)[case_id]) for case_id in stored):
        case = stored[case_id]
        for array, wanted in (
            (opened.image, case.image),
            (opened.label, case.label),
            (opened.previous, case.previous),
            (opened.locations.voxels, case.locations.voxels),
            (opened.locations.ends, case.locations.ends),
        ):
            np.testing.assert_array_equal(array, wanted)
            assert array.dtype == wanted.dtype
            assert not array.flags.writeable
            assert isinstance(array.base, mmap.mmap) != in_memory


def test_what_is_in_memory_is_read_once(tmp_path: Path) -> None:
    stored = store_cases(tmp_path)
    cases = OpenCases(stored, in_memory=True)
    before = cases["case_0"]
    for path in tmp_path.iterdir():
        path.unlink()
    assert cases["case_0"] is before
    assert before.image.any()


def test_only_the_last_cases_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_cases, "OPEN_CASES", 2)
    cases = OpenCases(store_cases(tmp_path))
    first, second = cases["case_0"], cases["case_1"]
    assert cases["case_0"] is first
    cases["case_2"]  # the one that was asked for longest ago has to go
    assert cases["case_0"] is first
    assert cases["case_1"] is not second


def test_cases_are_kept_in_memory_when_all_together_take_a_small_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = store_cases(tmp_path)
    size = sum(case.size_bytes for case in stored.values())
    monkeypatch.setattr(open_cases, "MEMORY_LIMIT_GIB", size / 2**30)
    assert fit_in_memory(stored, {})
    assert not fit_in_memory(stored, {"case_0": stored["case_0"]})
    monkeypatch.setattr(open_cases, "MEMORY_LIMIT_GIB", 4)
    monkeypatch.setattr(open_cases, "MEMORY_SHARE", 0)
    assert not fit_in_memory(stored)

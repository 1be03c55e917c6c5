"""Arrays in a file: as they were, mapped, and readable by the library whose format it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from nnlite.errors import WorkspaceError
from nnlite.preprocessing.case_file import ALIGNMENT, map_case_file, write_case_file

ARRAYS = {
    "label": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "image": np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 2, 3, 4)[..., ::-1],  # not contiguous
    "voxels": np.empty(0, dtype=np.int32),
    "large": np.array([2**40], dtype=np.int64),
    "many": np.array([-3, 300], dtype=np.int16),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_case_file(tmp_path / "case.safetensors", ARRAYS, {"note": "é"})
    return tmp_path / "case.safetensors"


def test_what_is_mapped_is_what_was_written(path: Path) -> None:
    arrays, text = map_case_file(path)
    assert text == {"note": "é"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
        assert not arrays[name].flags.writeable


def test_the_library_of_the_format_reads_it(path: Path) -> None:
    for name, array in load_file(path).items():
        assert np.array_equal(array, ARRAYS[name])


def test_each_array_begins_at_a_multiple_of_its_own_width(path: Path) -> None:
    arrays, _ = map_case_file(path)
    assert all(array.ctypes.data % array.itemsize == 0 for array in arrays.values())
    head = int.from_bytes(path.read_bytes()[:8], "little")
    assert (8 + head) % ALIGNMENT == 0


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_file_that_is_cut_short_is_told_with_the_way_out(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WorkspaceError, match=r"case\.safetensors is missing or damaged .* run nnlite preprocess again"):
        map_case_file(path)


def test_a_missing_file_is_told_alike(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="is missing or damaged"):
        map_case_file(tmp_path / "nothing.safetensors")

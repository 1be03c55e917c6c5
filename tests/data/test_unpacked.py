"""The size of voxels is told from the file's size: to the byte by gzip, roughly where it does not say."""

from __future__ import annotations

import gzip
from pathlib import Path

from nnlite.data.unpacked import PACKED, unpacked_bytes


def test_gzip_tells_the_size_before_packing(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(bytes(100_000)))
    assert path.stat().st_size < 1000
    assert unpacked_bytes(path) == 100_000


def test_files_that_are_not_packed_are_as_large_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(bytes(352))
    (tmp_path / "a.PNG").write_bytes(bytes(50))
    assert unpacked_bytes(tmp_path / "a.nii") == 352
    assert unpacked_bytes(tmp_path / "a.PNG") == PACKED * 50


def test_a_folder_of_slices_counts_all_of_them(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(10))
    assert unpacked_bytes(tmp_path) == 30


def test_what_cannot_be_opened_or_is_cut_short_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cut.nii.gz").write_bytes(b"\x1f\x8b")
    assert unpacked_bytes(tmp_path / "missing.nii.gz") == 0
    assert unpacked_bytes(tmp_path / "cut.nii.gz") <= PACKED * 2**16

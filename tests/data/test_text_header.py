"""Headers of MetaImage and NRRD that lead elsewhere, or claim what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnlite.data.geometry import Geometry
from nnlite.data.image import read_image, write_image
from nnlite.data.text_header import text_header_problem

VOXELS = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_good_files_have_no_problem(tmp_path, suffix):
    for array in (VOXELS, VOXELS.astype(np.float64), np.repeat(VOXELS, 3, axis=0)):
        write_image(tmp_path / f"a{suffix}", array, Geometry(shape=(3, 4, 5), spacing_mm=(2.0, 1.0, 1.0)))
        assert text_header_problem(tmp_path / f"a{suffix}", suffix) is None
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").array, array)


def detached(folder: Path, data: str) -> Path:
    (folder / "a.mhd").write_text(
        f"ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_SHORT\nElementDataFile = {data}\n"
    )
    return folder / "a.mhd"


def test_voxels_in_a_file_beside_are_read(tmp_path):
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes())
    np.testing.assert_array_equal(read_image(detached(tmp_path, "a.raw")).array, VOXELS)


@pytest.mark.parametrize("data", ["../a.raw", "/dev/zero", "folder/a.raw"])
def test_a_header_may_not_lead_out_of_its_folder(tmp_path, data):
    what, _ = text_header_problem(detached(tmp_path, data), ".mhd")
    assert what == f"its header leads out of its folder, to {data}"


def test_several_files_are_refused(tmp_path):
    for data in ("LIST", "slice%03d.raw 1 3 1"):
        what, remedy = text_header_problem(detached(tmp_path, data), ".mhd")
        assert "several other files" in what
        assert remedy == "save it as one file"


def test_a_detached_file_that_is_too_short_is_named(tmp_path):
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes()[:50])
    what, _ = text_header_problem(detached(tmp_path, "a.raw"), ".mhd")
    assert what == "the file is cut short: 50 of 120 bytes of voxels are in a.raw"

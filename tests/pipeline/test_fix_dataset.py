"""A corrected copy passes the check that its original failed, and the original stays as it was."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.geometry import Geometry
from nnlite.data.image import read_image, read_label, write_image
from nnlite.errors import DatasetError, UsageError

GRID = Geometry(shape=(12, 16, 14), spacing_mm=(2.0, 1.0, 1.0))


def add_case(root: Path, name: str, *, image: np.ndarray | None = None, label_grid: Geometry = GRID) -> None:
    rng = np.random.default_rng(len(name) + ord(name[0]))
    label = np.zeros((1, *GRID.shape), np.uint8)
    label[:, 3:8, 3:8, 3:8] = 1
    image = rng.normal(0, 100, label.shape).astype(np.float32) if image is None else image
    write_image(root / "images" / f"{name}.nii", image, GRID)
    write_image(root / "labels" / f"{name}.nii", label, label_grid)


def overwrite(path: Path, *changes: tuple) -> None:
    content = bytearray(path.read_bytes())
    for place, kind, *values in changes:
        struct.pack_into("<" + kind, content, place, *values)
    path.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One good case, to which the tests add faulty ones."""
    add_case(tmp_path / "data", "good")
    return tmp_path / "data"


def fix(data: Path, tmp_path: Path) -> pipeline.FixResult:
    before = contents(data)
    result = pipeline.fix(data, tmp_path / "copy", work=tmp_path / "work")
    assert contents(data) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    return result


def test_a_good_dataset_is_copied_as_it_is(data, tmp_path):
    result = fix(data, tmp_path)
    assert result.repairs == {}
    assert contents(tmp_path / "copy") == contents(data)
    assert result.report.faults == ()


def test_sheared_axes_of_image_and_label_are_straightened_alike(data, tmp_path):
    add_case(data, "bad")
    for kind in ("images", "labels"):
        sheared = (-1, 0.3, 0, 0, 0, -1, 0, 0, 0, 0, 2, 0)
        overwrite(data / kind / "bad.nii", (252, "2h", 0, 1), (280, "12f", *sheared))
    assert len(pipeline.check(data, work=tmp_path / "work").faults) == 2
    result = fix(data, tmp_path)
    assert [words.split(":")[0] for words in result.repairs["bad"]] == ["images/bad.nii", "labels/bad.nii"]
    assert "straightened, which moves its corners by up to" in result.repairs["bad"][0]
    assert (result.report.faults, result.report.warnings) == ((), ())
    image = read_image(tmp_path / "copy" / "images" / "bad.nii", orientation="file")
    np.testing.assert_array_equal(
        image.array, np.fromfile(data / "images" / "bad.nii", "<f4", offset=352).reshape(image.array.shape)
    )


def test_voxels_that_are_no_numbers_become_the_smallest_of_the_others(data, tmp_path):
    image = np.random.default_rng(0).normal(0, 300, (1, *GRID.shape)).astype(np.float32)
    image[0, 0, :3] = np.nan
    image[0, 1, 0, 0] = np.inf
    add_case(data, "bad", image=image)
    result = fix(data, tmp_path)
    assert result.report.faults == ()
    fixed = read_image(tmp_path / "copy" / "images" / "bad.nii", orientation="file").array
    finite = np.isfinite(image)
    np.testing.assert_array_equal(fixed[finite], image[finite])
    assert (fixed[~finite] == image[finite].min()).all()
    assert result.repairs["bad"][0].startswith("images/bad.nii: 43 voxels that are NaN or infinite set to -")


def test_a_label_half_a_voxel_beside_is_put_onto_its_image_and_a_distant_one_is_left(data, tmp_path):
    add_case(data, "near", label_grid=replace(GRID, origin_mm=(0.0, 0.3, 0.4)))
    add_case(data, "far", label_grid=replace(GRID, origin_mm=(0.0, 30.0, 40.0)))
    result = fix(data, tmp_path)
    assert result.repairs == {
        "near": ("labels/near.nii: put onto the grid of its image, which lay up to 0.5 mm beside",)
    }
    assert [fault.case for fault in result.report.faults] == ["far"]


def test_labels_saved_as_floats_become_whole_numbers(data, tmp_path):
    path = data / "labels" / "good.nii"
    label = read_label(path)
    write_image(path, label.array.astype(np.float64), label.geometry)
    result = fix(data, tmp_path)
    assert result.repairs == {"good": ("labels/good.nii: label saved as whole numbers instead of float64",)}
    assert read_image(tmp_path / "copy" / "labels" / "good.nii").array.dtype == np.uint8
    np.testing.assert_array_equal(read_label(tmp_path / "copy" / "labels" / "good.nii").array, label.array)


def test_single_axes_are_dropped_and_contradictions_settled(data, tmp_path):
    add_case(data, "bad")
    overwrite(data / "images" / "bad.nii", (40, "8h", 5, 14, 16, 12, 1, 1, 1, 1))
    for kind in ("images", "labels"):
        overwrite(data / kind / "bad.nii", (280, "12f", -1, 0, 0, 30, 0, -1, 0, 0, 0, 0, 2, 0), (252, "2h", 1, 1))
    result = fix(data, tmp_path)
    assert "images/bad.nii: 2 single axes dropped" in result.repairs["bad"]
    assert (result.report.faults, result.report.warnings) == ((), ())


def test_descriptions_lists_and_other_files_come_along(data, tmp_path):
    (data / "nnlite.json").write_text(json.dumps({"labels": {"background": 0, "box": 1}}))
    (data / "cases.csv").write_text("id,MR,label\ngood,images/good.nii,labels/good.nii\n")
    (data / "notes").mkdir()
    (data / "notes" / "a.txt").write_text("by Dr. Doe")
    result = fix(data, tmp_path)
    assert result.report.dataset.channels == ("MR",)
    assert contents(tmp_path / "copy") == contents(data)


def test_what_cannot_be_read_is_copied_and_told_again(data, tmp_path):
    add_case(data, "bad")
    (data / "images" / "bad.nii").write_bytes(b"text")
    result = fix(data, tmp_path)
    with pytest.raises(DatasetError, match="1 of 2 cases cannot be used"):
        result.report.raise_if_faulty()


def test_a_link_that_leads_back_is_followed_once(data, tmp_path):
    (data / "again").symlink_to(data, target_is_directory=True)
    pipeline.fix(data, tmp_path / "copy", work=tmp_path / "work")
    assert not (tmp_path / "copy" / "again" / "images").exists()


def test_folders_in_the_way_are_refused_and_nothing_is_left(data, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(UsageError, match="is there already; give a new folder with --fix"):
        pipeline.fix(data, tmp_path / "full", work=tmp_path / "work")
    with pytest.raises(UsageError, match="lies in the dataset itself"):
        pipeline.fix(data, data / "copy", work=tmp_path / "work")
    table = tmp_path / "lists" / "cases.csv"
    table.parent.mkdir()
    table.write_text("id,MR,label\ngood,../data/images/good.nii,../data/labels/good.nii\n")
    with pytest.raises(UsageError, match="lies outside of"):
        pipeline.fix(table, tmp_path / "copy", work=tmp_path / "work")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "full", "lists"]

"""From any layout to any other and back: the same cases, channels, labels and voxels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnlite import pipeline
from nnlite.data.channels import read_channels
from nnlite.data.check import check_dataset
from nnlite.data.dataset import Dataset, find_dataset
from nnlite.data.image import Geometry, read_image, read_label, write_image
from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.errors import DatasetError, UsageError
from nnlite.interop.dataset_layouts import label_table

LAYOUTS = ("folder", "nnunet", "msd", "bids", "table")
GRID = Geometry(shape=(3, 4, 5), spacing_mm=(2.0, 1.0, 0.5), origin_mm=(-7.0, 3.0, 1.0))
TURNED = Geometry(shape=(3, 4, 5), spacing_mm=(2.0, 1.0, 0.5), direction=((-1, 0, 0), (0, 1, 0), (0, 0, -1)))
PLAIN = {"background": 0, "liver": 1, "spleen": 2}
REGIONS = {"background": 0, "tumour": [1, 2], "core": 2, "ignore": 3}


def write_dataset(root: Path, labels: dict[str, object], **said: object) -> Path:
    """Four cases of two channels each, one of them stored the other way round, with all their labels."""
    values = 1 + max(value for entry in labels.values() for value in (entry if isinstance(entry, list) else [entry]))
    for number in range(4):
        name, grid = f"sub-{number}", TURNED if number == 3 else GRID
        rng = np.random.default_rng(number)
        for channel in range(2):
            image = rng.normal(size=(1, *GRID.shape)).astype(np.float32)
            write_image(root / f"images/{name}_{channel:04d}.nii.gz", image, grid)
        label = rng.integers(0, values, (1, *GRID.shape)).astype(np.uint8)
        write_image(root / f"labels/{name}.nii.gz", label, grid)
    (root / "nnlite.json").write_text(json.dumps({"channels": ["T1w", "T2w"], "labels": labels, **said}))
    return root


def assert_alike(one: Dataset, other: Dataset) -> None:
    """The same cases, channels, names of labels and, in patient space, voxels of images and labels."""
    one, other = (check_dataset(dataset, workers=1).dataset for dataset in (one, other))
    assert sorted(one.channels) == sorted(other.channels)
    assert one.labels is not None
    assert one.labels == other.labels
    assert [case.id for case in one.cases] == [case.id for case in other.cases]
    order = [other.channels.index(name) for name in one.channels]
    for before, after in zip(one.cases, other.cases, strict=True):
        assert (before.group, before.site, before.annotated) == (after.group, after.site, after.annotated)
        images = [read_channels(case.images) for case in (before, after)]
        np.testing.assert_array_equal(images[0].array, images[1].array[order])
        assert images[0].geometry.differences(images[1].geometry) == []
        assert before.label is not None
        assert after.label is not None
        np.testing.assert_array_equal(read_label(before.label).array, read_label(after.label).array)


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["plain", "regions"])
def test_to_any_layout_and_back_is_the_same_dataset(tmp_path: Path, labels, to, link):
    source = write_dataset(tmp_path / "source", labels)
    pipeline.convert(source, tmp_path / "there", to=to, link=link)
    pipeline.convert(tmp_path / "there", tmp_path / "back", link=link)
    for folder in ("there", "back"):
        assert_alike(find_dataset(source), find_dataset(tmp_path / folder))
    layouts = {"nnunet": "nnU-Net raw", "msd": "Medical Segmentation Decathlon", "bids": "BIDS (labels of nnlite)"}
    layouts |= {"folder": "images/ and labels/", "table": "list of cases (cases.csv)"}
    assert find_dataset(tmp_path / "there").layout == layouts[to]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "source", "there"]  # nothing is left over


@pytest.mark.parametrize("to", LAYOUTS)
def test_what_is_known_of_cases_survives_every_layout_and_is_told_where_others_cannot_read_it(tmp_path: Path, to):
    said = {"groups": {"sub-0": "anna", "sub-1": "anna"}, "sites": {"sub-3": "Rome"}, "annotated": {"sub-2": ["liver"]}}
    source = write_dataset(tmp_path / "source", PLAIN, **said)
    write_image(source / "labels/sub-2.nii.gz", np.ones((1, *GRID.shape), np.uint8), GRID)
    folds = [
        {"train": ["sub-2", "sub-3"], "val": ["sub-0", "sub-1"]},
        {"train": ["sub-0", "sub-1"], "val": ["sub-2", "sub-3"]},
    ]
    (source / "splits_final.json").write_text(json.dumps(folds))
    result = pipeline.convert(source, tmp_path / "there", to=to)
    found = find_dataset(tmp_path / "there")
    assert found.splits is not None
    assert [fold.validation for fold in found.splits.folds] == [("sub-0", "sub-1"), ("sub-2", "sub-3")]
    if to == "bids":  # the ids fit, so cases of a group remain subjects of their own
        assert {case.id: case.site for case in found.cases}["sub-3"] == "Rome"
        assert {case.id: case.annotated for case in found.cases}["sub-2"] == ("liver",)
    else:
        assert_alike(find_dataset(source), found)
    told = [note for note in result.notes if "which only nnlite reads" in note]
    assert bool(told) == (to in ("nnunet", "msd", "bids"))
    assert all("labels annotated case by case" in note for note in told)


@pytest.mark.parametrize("to", LAYOUTS)
def test_that_connected_parts_are_single_objects_survives_every_layout(tmp_path: Path, to):
    source = write_dataset(tmp_path / "source", {"background": 0, "cell": 1}, instances="components")
    result = pipeline.convert(source, tmp_path / "there", to=to)
    assert any("single objects" in note for note in result.notes) == (to in ("nnunet", "msd", "bids"))
    found = find_dataset(tmp_path / "there")
    assert_alike(find_dataset(source), found)
    assert found.labels is not None
    assert found.labels.instances == Instances()


def test_values_become_consecutive_for_nnunet_and_it_is_told(tmp_path: Path):
    source = write_dataset(tmp_path / "source", PLAIN | {"spleen": 7, "ignore": 5})
    for path in (source / "labels").iterdir():
        array = np.zeros((1, *GRID.shape), np.uint8)
        array[0, 0, 0, :4] = 0, 1, 7, 5
        write_image(path, array, GRID if path.name != "sub-3.nii.gz" else TURNED)
    result = pipeline.convert(source, tmp_path / "raw", to="nnunet")
    assert "label values are consecutive in nnU-Net: 7 to 2" in result.notes
    about = json.loads((tmp_path / "raw/dataset.json").read_text())
    assert about["labels"] == {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}
    assert (about["channel_names"], about["file_ending"]) == ({"0": "T1w", "1": "T2w"}, ".nii.gz")
    found = read_image(tmp_path / "raw/labelsTr/sub-3.nii.gz", orientation="file")
    assert found.array[0, 0, 0, :4].tolist() == [0, 1, 2, 3]


def test_groups_become_folds_for_nnunet(tmp_path: Path):
    said = {"groups": {"sub-0": "anna", "sub-1": "anna"}}
    result = pipeline.convert(write_dataset(tmp_path / "source", PLAIN, **said), tmp_path / "raw", to="nnunet")
    folds = json.loads((tmp_path / "raw/splits_final.json").read_text())
    assert len(folds) == 3
    assert ["sub-0", "sub-1"] in [fold["val"] for fold in folds]
    assert any("folds that keep groups whole" in note for note in result.notes)


def test_files_stay_as_they_are_where_they_can(tmp_path: Path):
    source = write_dataset(tmp_path / "source", PLAIN)
    pipeline.convert(source, tmp_path / "copied", to="nnunet")
    pipeline.convert(source, tmp_path / "linked", to="nnunet", link=True)
    original = source / "images/sub-0_0001.nii.gz"
    copied, linked = (tmp_path / name / "imagesTr/sub-0_0001.nii.gz" for name in ("copied", "linked"))
    assert copied.read_bytes() == original.read_bytes()
    assert not copied.samefile(original)
    assert linked.samefile(original)
    pipeline.convert(source, tmp_path / "table", to="table", link=True)
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == ["cases.csv", "labels.json"]
    assert find_dataset(tmp_path / "table").cases[0].images[1] == original


def test_formats_with_one_ending_or_file_per_case_get_what_they_need(tmp_path: Path):
    source = tmp_path / "source"
    array = np.arange(2 * 60, dtype=np.int16).reshape(2, *GRID.shape)
    for name, suffix in (("a", ".nrrd"), ("b", ".mha")):
        write_image(source / f"images/{name}{suffix}", array, GRID)
        write_image(source / f"labels/{name}{suffix}", array[:1] % 2, GRID)
    written = source / "images/b.mha"
    SimpleITK.WriteImage(SimpleITK.ReadImage(written), source / "images/b.mhd")  # and b.raw, which has the voxels
    written.unlink()
    for to in LAYOUTS:
        pipeline.convert(source, tmp_path / to, to=to)
        found = check_dataset(find_dataset(tmp_path / to), workers=1)
        assert found.faults == ()
        assert len(found.dataset.cases) == 2
        image = read_channels(found.dataset.cases[1].images).array
        np.testing.assert_array_equal(image, np.arange(2 * 60).reshape(2, *GRID.shape))
    assert (tmp_path / "folder/images/b.mha").exists()
    assert [path.name for path in sorted((tmp_path / "nnunet/imagesTr").iterdir())][:2] == [
        "a_0000.nii.gz",
        "a_0001.nii.gz",
    ]
    assert read_image(tmp_path / "msd/imagesTr/a.nii.gz").array.shape == (2, *GRID.shape)


def test_pictures_stay_pictures_and_are_refused_where_only_volumes_go(tmp_path: Path):
    plane = Geometry(shape=(1, 4, 5), spacing_mm=(1, 1, 1))
    source = tmp_path / "cells"
    for name in "ab":
        colours = np.arange(60, dtype=np.uint8).reshape(3, 1, 4, 5)
        write_image(source / f"images/{name}.bmp", colours, plane, planar=True)
        write_image(source / f"labels/{name}.png", colours[:1] % 2, plane, planar=True)
    pipeline.convert(source, tmp_path / "raw", to="nnunet")
    assert sorted(path.name for path in (tmp_path / "raw/imagesTr").iterdir()) == ["a_0000.png", "b_0000.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "raw/imagesTr/a_0000.png").array, colours)
    for to in ("msd", "bids"):
        with pytest.raises(UsageError, match="holds volumes, and these are 2D images; choose --to folder"):
            pipeline.convert(source, tmp_path / to, to=to)
        assert not (tmp_path / to).exists()


def test_channels_on_several_grids_are_written_on_one_where_the_format_demands_it(tmp_path: Path):
    source = write_dataset(tmp_path / "source", PLAIN, reference_channel="T1w")
    coarse = Geometry(shape=(2, 2, 3), spacing_mm=(4.0, 2.0, 1.0), origin_mm=GRID.origin_mm)
    write_image(source / "images/sub-0_0001.nii.gz", np.ones((1, 2, 2, 3), np.float32), coarse)
    for to in LAYOUTS:
        pipeline.convert(source, tmp_path / to, to=to)
        found = find_dataset(tmp_path / to)
        assert check_dataset(found, workers=1).faults == ()
        assert (found.reference_channel is None) == (to in ("nnunet", "msd"))


def test_ids_and_channels_are_spelt_as_bids_demands_and_told(tmp_path: Path):
    for name in ("scan_1", "scan1"):
        write_image(tmp_path / f"source/images/{name}.nii.gz", np.ones((1, *GRID.shape), np.float32), GRID)
        write_image(tmp_path / f"source/labels/{name}.nii.gz", np.ones((1, *GRID.shape), np.uint8), GRID)
    said = {"channels": ["T1 (Gd)"], "labels": {"lesion": 1}, "groups": {"scan_1": "A b", "scan1": "A b"}}
    (tmp_path / "source/nnlite.json").write_text(json.dumps(said))
    result = pipeline.convert(tmp_path / "source", tmp_path / "bids", to="bids")
    found = find_dataset(tmp_path / "bids")
    assert {case.id: case.group for case in found.cases} == {
        "sub-Ab_ses-scan1": "sub-Ab",
        "sub-Ab_ses-scan1x2": "sub-Ab",
    }
    assert found.channels == ("T1Gd",)
    assert "channels have new names, as BIDS demands: T1 (Gd) to T1Gd" in result.notes
    assert (tmp_path / "bids/derivatives/nnlite/dseg.tsv").read_text() == "index\tname\n0\tbackground\n1\tlesion\n"
    assert (tmp_path / "bids/sub-Ab/ses-scan1/anat/sub-Ab_ses-scan1_T1Gd.nii.gz").exists()


@pytest.mark.parametrize("channels", [["dwi", "adc", "flair"], ["dwi"], ["acq-b0_dwi", "DWI", "dwi", "mask"]])
def test_channels_that_bids_takes_for_something_else_come_back(tmp_path: Path, channels: list[str]):
    for number in range(len(channels)):
        write_image(tmp_path / f"source/images/a_{number:04d}.nii.gz", np.ones((1, *GRID.shape), np.float32), GRID)
    write_image(tmp_path / "source/labels/a.nii.gz", np.ones((1, *GRID.shape), np.uint8), GRID)
    (tmp_path / "source/nnlite.json").write_text(json.dumps({"channels": channels, "labels": {"lesion": 1}}))
    result = pipeline.convert(tmp_path / "source", tmp_path / "bids", to="bids")
    found = find_dataset(tmp_path / "bids")
    assert {name.casefold().removesuffix("x2") for name in found.channels} == {name.casefold() for name in channels}
    assert len(found.channels) == len(channels)
    assert any("channels have new names" in note for note in result.notes)


def test_a_dataset_with_faults_is_not_converted_and_nothing_overwritten(tmp_path: Path):
    source = write_dataset(tmp_path / "source", PLAIN)
    (source / "labels/sub-1.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"sub-1 .*no label"):
        pipeline.convert(source, tmp_path / "there", to="msd")
    assert not (tmp_path / "there").exists()
    with pytest.raises(UsageError, match="is there already"):
        pipeline.convert(source, source / "images", to="msd")


@pytest.mark.parametrize("table", [PLAIN, REGIONS, {"a": 3, "b": 9, "ignore": 4}])
def test_a_table_of_labels_is_what_it_was_made_of(table):
    labels = Labels.from_table(table)
    assert Labels.from_table(*label_table(labels)) == labels
    consecutive = Labels.from_table(*label_table(labels, as_indices=True))
    assert consecutive.values == tuple(range(labels.count))
    assert consecutive.structures == labels.structures

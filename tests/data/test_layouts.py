"""Each layout by itself: which files make a case, and which faults are seen without opening images."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlite.data.dataset import find_dataset
from nnlite.data.layouts import decathlon, group_channels, image_files, listed, pairs, read_json, stem
from nnlite.errors import DatasetError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def told(found) -> list[tuple[str | None, str]]:
    return [(fault.case, fault.what) for fault in found.faults]


def test_decathlon_cases_come_from_the_training_list(tmp_path):
    metadata = {
        "modality": {"1": "T2", "0": "T1"},
        "labels": {"0": "background", "1": "tumour"},
        "training": [{"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"}],
    }
    found = decathlon(tmp_path, metadata)
    assert [(case.id, case.images, case.label) for case in found.cases] == [
        ("b", (tmp_path / "imagesTr/b.nii.gz",), tmp_path / "labelsTr/b.nii.gz")
    ]
    assert found.channels == ("T1", "T2")
    assert found.label_table == {"0": "background", "1": "tumour"}
    assert found.faults == []


def test_decathlon_entries_without_image_or_label_and_repeated_ones_are_faults(tmp_path):
    entries = [
        {"image": "a.nii", "label": "l/a.nii"},
        {"label": "x"},
        {"image": "b.nii"},
        {"image": "a.nii", "label": "l"},
    ]
    found = decathlon(tmp_path, {"training": entries})
    assert told(found) == [
        (None, 'entry 2 of "training" in dataset.json names no image'),
        ("b", 'no label in the "training" list'),
        ("a", "the id occurs 2 times"),
    ]
    assert [(case.id, case.label) for case in found.cases] == [("a", tmp_path / "l/a.nii"), ("b", None)]


def test_channels_of_a_case_are_found_by_their_number(tmp_path):
    touch(tmp_path / "imagesTr", "a_0001.nii.gz", "a_0000.nii.gz", ".hidden_0000.nii.gz", "notes.txt")
    touch(tmp_path / "labelsTr", "a.nii.gz")
    found = pairs(tmp_path / "imagesTr", tmp_path / "labelsTr", {"channel_names": {"0": "CT", "1": "PET"}}, "raw")
    [case] = found.cases
    assert case.id == "a"
    assert [image.name for image in case.images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert found.channels == ("CT", "PET")
    assert found.faults == []


def test_a_name_that_ends_in_digits_is_no_channel_if_a_label_has_it(tmp_path):
    touch(tmp_path / "images", "slice_0001.png", "slice_0002.png")
    touch(tmp_path / "labels", "slice_0001.png", "slice_0002.tif")
    found = pairs(tmp_path / "images", tmp_path / "labels", {}, "pairs")
    assert [case.id for case in found.cases] == ["slice_0001", "slice_0002"]
    assert found.faults == []


def test_a_name_that_ends_in_digits_is_no_channel_if_labels_are_numbered_so(tmp_path):
    names = [f"scan_{number:04d}.png" for number in range(4)]
    touch(tmp_path / "images", *names)
    touch(tmp_path / "labels", *names[:2])
    found = pairs(tmp_path / "images", tmp_path / "labels", {}, "pairs")
    assert told(found) == [(name, "an image but no label in labels/") for name in ("scan_0002", "scan_0003")]
    assert [case.id for case in found.cases] == [f"scan_{number:04d}" for number in range(4)]
    (tmp_path / "nnlite.json").write_text('{"exclude": ["scan_0002", "scan_0003"]}')
    dataset = find_dataset(tmp_path)
    assert (len(dataset.cases), dataset.faults) == (2, ())


def test_missing_partners_and_duplicates_are_all_told(tmp_path):
    touch(tmp_path / "images", "a.png", "b.png", "b.jpg", "c.png")
    touch(tmp_path / "labels", "b.png", "c.png", "d.png")
    found = pairs(tmp_path / "images", tmp_path / "labels", {}, "pairs")
    assert told(found) == [
        ("a", "an image but no label in labels/"),
        ("b", "several files for one id: images/b.jpg, images/b.png"),
        ("d", "a label but no image in images/"),
    ]
    assert [(case.id, case.label is not None) for case in found.cases] == [("a", False), ("c", True)]


def test_a_missing_channel_is_named_with_the_file_that_should_be_there(tmp_path):
    touch(
        tmp_path / "imagesTr", "a_0000.nrrd", "a_0001.nrrd", "b_0000.nrrd", "c_0000.nrrd", "c_0001.nrrd", "c_0002.nrrd"
    )
    touch(tmp_path / "labelsTr", "a.nrrd", "b.nrrd", "c.nrrd")
    found = pairs(tmp_path / "imagesTr", tmp_path / "labelsTr", {"channel_names": {"0": "T1", "1": "T2"}}, "raw")
    assert told(found) == [
        ("b", "channel 1 (T2) is missing"),
        ("c", "channel 2 is there, but dataset.json names 2 channels (T1, T2)"),
    ]
    assert found.faults[0].file == "imagesTr/b_0001.nrrd"
    assert [case.id for case in found.cases] == ["a"]


def test_without_metadata_the_other_cases_tell_which_channels_there_should_be(tmp_path):
    touch(tmp_path / "imagesTr", "a_0000.nrrd", "a_0001.nrrd", "b_0001.nrrd")
    touch(tmp_path / "labelsTr", "a.nrrd", "b.nrrd")
    assert told(pairs(tmp_path / "imagesTr", tmp_path / "labelsTr", {}, "raw")) == [("b", "channel 0 is missing")]


def test_files_of_another_ending_than_nnunet_s_are_left_out(tmp_path):
    touch(tmp_path / "imagesTr", "a_0000.nrrd", "a_0000.png")
    touch(tmp_path / "labelsTr", "a.nrrd", "a.png")
    folders = tmp_path / "imagesTr", tmp_path / "labelsTr"
    assert [len(pairs(*folders, said, "raw").faults) for said in ({}, {"file_ending": ".nrrd"})] == [2, 0]
    [case] = pairs(*folders, {"file_ending": ".nrrd"}, "raw").cases
    assert (case.images, case.label) == ((folders[0] / "a_0000.nrrd",), folders[1] / "a.nrrd")
    assert len(pairs(*folders, {"file_ending": ".nii.gz"}, "raw").faults) == 2


def test_files_may_be_listed_case_by_case_as_nnunet_lets_them(tmp_path):
    entries = {
        "a": {"images": ["x/a_ct.nii.gz", "/far/a_pet.nii.gz"], "label": "y/a.nii.gz"},
        "b": {"images": ["x/b_ct.nii.gz", "x/b_pet.nii.gz"]},
        "c": {"label": "y/c.nii.gz"},
    }
    found = listed(tmp_path, {"dataset": entries, "channel_names": {"0": "CT", "1": "PET"}})
    assert [(case.id, case.images, case.label) for case in found.cases] == [
        ("a", (tmp_path / "x/a_ct.nii.gz", Path("/far/a_pet.nii.gz")), tmp_path / "y/a.nii.gz"),
        ("b", (tmp_path / "x/b_ct.nii.gz", tmp_path / "x/b_pet.nii.gz"), None),
    ]
    assert told(found) == [
        ("b", 'no label under "dataset"'),
        ("c", 'its entry under "dataset" in dataset.json names no images'),
    ]


def test_dataset_json_may_say_which_structures_a_case_has_annotated(tmp_path):
    entry = {"image": "a.nii", "label": "l/a.nii"}
    found = decathlon(tmp_path, {"training": [entry, entry | {"image": "b.nii"}], "annotated": {"a": ["liver"]}})
    assert [case.annotated for case in found.cases] == [("liver",), None]
    with pytest.raises(DatasetError, match='"annotated" should be an object like'):
        decathlon(tmp_path, {"training": [entry], "annotated": {"a": "liver"}})


def test_channel_names_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"channel names \{'CT': 0\} are not understood"):
        decathlon(tmp_path, {"training": [], "channel_names": {"CT": 0}})


def test_channel_names_may_be_a_list(tmp_path):
    assert decathlon(tmp_path, {"training": [], "modality": ["CT", "PET"]}).channels == ("CT", "PET")


def test_a_json_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"x\.json cannot be read: No such file"):
        read_json(tmp_path / "x.json")


def test_stems_keep_dots_that_belong_to_the_name():
    assert stem(Path("a.b.nii.gz")) == "a.b"
    assert stem(Path("a.NRRD")) == "a"


def test_files_are_grouped_by_case_in_order_of_channel(tmp_path):
    grouped = group_channels(
        [Path("b.png"), Path("a_0001.png"), Path("a_0000.png"), Path("s_0003.png")], whole=["s_0003"]
    )
    assert list(grouped) == ["a", "b", "s_0003"]
    assert list(grouped["a"]) == [0, 1]


def test_only_visible_image_files_count(tmp_path):
    touch(tmp_path, "b.png", "a.png", "._a.png", "Thumbs.db")
    (tmp_path / "folder.png").mkdir()
    assert [file.name for file in image_files(tmp_path)] == ["a.png", "b.png"]


def test_folders_of_dicom_slices_are_images_like_files(tmp_path: Path):
    for name in ("scan.1.2", "b.nii.gz", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "scan.1.2" / "1.dcm").touch()
    (tmp_path / "a.nii.gz").touch()
    found = image_files(tmp_path)
    assert [path.name for path in found] == ["a.nii.gz", "scan.1.2"]
    assert stem(found[1]) == "scan.1.2"  # the dots of a folder are no suffix

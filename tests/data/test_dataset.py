"""Which layout is recognised, what nnlite.json changes, and what is no dataset at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnlite.data.dataset import find_dataset, find_images, read_description
from nnlite.data.labels import Labels
from nnlite.errors import DatasetError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def plain(tmp_path) -> Path:
    """Three plain pairs a, b, c."""
    return touch(tmp_path / "organs", *(f"{folder}/{case}.nii.gz" for folder in ("images", "labels") for case in "abc"))


def test_plain_pairs_are_named_after_their_folder(plain):
    dataset = find_dataset(plain)
    assert (dataset.name, dataset.layout, dataset.size) == ("organs", "images/ and labels/", 3)
    assert (dataset.channels, dataset.labels, dataset.faults) == ((), None, ())


def test_nnunet_raw_takes_its_names_from_dataset_json(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0, "tumour": 1}}')
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.channels) == ("nnU-Net raw", ("CT",))
    assert dataset.labels == Labels(names=("background", "tumour"), values=(0, 1))
    assert find_dataset(tmp_path / "dataset.json") == dataset


def test_a_table_may_be_named_itself_or_lie_in_the_folder(tmp_path):
    (tmp_path / "cases.csv").write_text("id,CT,label\na,a.nii,b.nii\n")
    (tmp_path / "brains.json").write_text('[{"id": "a", "T1": "a.nii", "label": "b.nii"}]')
    assert find_dataset(tmp_path).channels == ("CT",)
    assert find_dataset(tmp_path / "cases.csv").name == tmp_path.name
    assert find_dataset(tmp_path / "brains.json").name == "brains"


def test_nnlite_json_overrules_the_metadata(plain):
    said = {"name": "other", "labels": {"background": 0, "liver": 7}, "channels": ["CT"], "exclude": ["b"]}
    (plain / "nnlite.json").write_text(json.dumps(said))
    dataset = find_dataset(plain)
    assert (dataset.name, dataset.channels) == ("other", ("CT",))
    assert dataset.labels == Labels(names=("background", "liver"), values=(0, 7))
    assert [case.id for case in dataset.cases] == ["a", "c"]
    assert dataset.description == plain / "nnlite.json"


def test_a_description_elsewhere_serves_a_dataset_without_its_own(plain, tmp_path):
    elsewhere = tmp_path / "work.json"
    elsewhere.write_text('{"channels": ["T1"]}')
    assert find_dataset(plain, elsewhere).channels == ("T1",)
    assert find_dataset(plain, tmp_path / "missing.json").channels == ()
    (plain / "nnlite.json").write_text('{"channels": ["T2"]}')
    assert find_dataset(plain, elsewhere).channels == ("T2",)


def test_excluded_cases_take_their_faults_along(plain):
    (plain / "labels/b.nii.gz").unlink()
    assert [fault.case for fault in find_dataset(plain).faults] == ["b"]
    (plain / "nnlite.json").write_text('{"exclude": ["b"]}')
    dataset = find_dataset(plain)
    assert (dataset.faults, dataset.size) == ((), 2)


def test_excluding_a_case_that_is_not_there_is_a_fault(plain):
    (plain / "nnlite.json").write_text('{"exclude": ["z"]}')
    [fault] = find_dataset(plain).faults
    assert fault.what == "\"exclude\" names 'z', which is no case"


def test_groups_come_from_nnlite_json_where_the_list_has_none_or_others(plain, tmp_path):
    assert find_dataset(plain).groups == {}
    (plain / "nnlite.json").write_text('{"groups": {"a": "anna", "b": "anna"}}')
    assert find_dataset(plain).groups == {"a": "anna", "b": "anna"}
    table = "id,CT,label,Group\na,a.nii,a.nii,bob\nb,b.nii,b.nii,bob\nc,c.nii,c.nii,\n"
    touch(plain, "a.nii", "b.nii", "c.nii")
    (plain / "cases.csv").write_text(table)
    assert find_dataset(plain).groups == {"a": "anna", "b": "anna"}
    (plain / "nnlite.json").write_text('{"groups": {"a": "anna"}}')
    assert find_dataset(plain).groups == {"a": "anna", "b": "bob"}
    (plain / "nnlite.json").write_text('{"groups": {"z": "anna"}}')
    assert [fault.what for fault in find_dataset(plain).faults] == ["\"groups\" names 'z', which is no case"]


def test_regions_are_painted_as_the_metadata_says(plain):
    (plain / "dataset.json").write_text(
        '{"labels": {"background": 0, "whole": [1, 2], "core": 1, "ignore": 3}, "regions_class_order": [2, 1]}'
    )
    labels = find_dataset(plain).labels
    assert labels.painted == (2, 1)
    assert labels.ignore == 3
    (plain / "nnlite.json").write_text('{"labels": {"core": 1, "edge": 2}, "regions_class_order": "2"}')
    with pytest.raises(DatasetError, match="'regions_class_order' should be a list of label values"):
        find_dataset(plain)


def test_pairs_of_left_and_right_are_named_in_nnlite_json(plain):
    (plain / "dataset.json").write_text('{"labels": {"background": 0, "left lung": 1, "right lung": 2}}')
    assert find_dataset(plain).labels.mirrored == (("left lung", "right lung"),)
    (plain / "nnlite.json").write_text('{"mirrored": []}')
    assert find_dataset(plain).labels.mirrored == ()
    (plain / "nnlite.json").write_text('{"mirrored": [[1, 3]]}')
    [fault] = find_dataset(plain).faults
    assert "mirrored names 3, which is not learned; there are left lung, right lung" in fault.what
    assert fault.remedy == f"correct {plain / 'nnlite.json'}"
    (plain / "dataset.json").unlink()
    [fault] = find_dataset(plain).faults
    assert fault.what == '"mirrored" pairs labels, and there is no table of them'


def test_a_label_table_that_cannot_be_used_is_one_of_the_faults(plain):
    (plain / "labels/b.nii.gz").unlink()
    (plain / "dataset.json").write_text('{"labels": {"background": 0, "whole": "both"}}')
    faults = find_dataset(plain).faults
    assert [fault.case for fault in faults] == ["b", None]
    assert "is not understood" in faults[1].what
    assert faults[1].remedy == f"correct {plain / 'dataset.json'}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"label": {}}',
            "unknown key 'label'; the keys are name, labels, regions_class_order, mirrored, channels, exclude",
        ),
        ('{"labels": []}', "'labels' should be an object like"),
        ('{"channels": "CT"}', r"'channels' should be a list of names like \[\"CT\"\]"),
        ('{"exclude": [1]}', "'exclude' should be a list of case ids"),
        ('{"groups": {"a": 1}}', "'groups' should be an object like"),
        ('{"mirrored": ["left", "right"]}', "'mirrored' should be a list of pairs like"),
        ('{"mirrored": [["left", "right", "middle"]]}', "'mirrored' should be a list of pairs like"),
        ('{"groups": ["a"]}', "'groups' should be an object like"),
        ('{"name": "a/b"}', "'name' should be a name that can be a folder's"),
        ("[]", "write one JSON object"),
        ("{", "is not valid JSON"),
    ],
)
def test_a_description_says_nothing_unknown(tmp_path, text, message):
    (tmp_path / "nnlite.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_description(tmp_path / "nnlite.json")


def test_a_missing_folder_is_one_clear_message(tmp_path):
    with pytest.raises(DatasetError) as caught:
        find_dataset(tmp_path / "nowhere")
    assert str(caught.value) == (
        f"{tmp_path / 'nowhere'} does not exist; give the folder of a dataset, or a table (.csv, .json, .parquet) of "
        "its cases"
    )


def test_an_empty_folder_and_empty_datasets_are_one_clear_message_each(tmp_path):
    with pytest.raises(DatasetError, match=r"is empty; a dataset is one of: a dataset\.json with"):
        find_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    touch(tmp_path, "labels/readme.txt")
    with pytest.raises(DatasetError, match=r"is an empty dataset .*: no case was found in it; nnlite reads \.nii\.gz"):
        find_dataset(tmp_path)
    (tmp_path / "cases.csv").write_text("id,label,CT\n")
    with pytest.raises(DatasetError, match=r"is an empty dataset \(list of cases \(cases.csv\)\)"):
        find_dataset(tmp_path)


def test_a_dataset_whose_cases_are_all_excluded_says_so(plain):
    (plain / "nnlite.json").write_text('{"exclude": ["a", "b", "c"]}')
    with pytest.raises(DatasetError, match="all its cases are excluded"):
        find_dataset(plain)


def test_a_folder_above_the_dataset_points_to_it(plain):
    with pytest.raises(DatasetError, match=f"Found there: organs/; did you mean {plain}\\?"):
        find_dataset(plain.parent)


def test_an_unknown_folder_tells_what_was_found_in_it(tmp_path):
    touch(tmp_path, *(f"file{i:02d}.txt" for i in range(10)))
    with pytest.raises(DatasetError, match=r"Found there: file00.txt, .*file07.txt and 2 more$"):
        find_dataset(tmp_path)


def test_a_file_of_another_kind_is_no_dataset(tmp_path):
    touch(tmp_path, "a.nii.gz")
    with pytest.raises(DatasetError, match="is a file; give the folder"):
        find_dataset(tmp_path / "a.nii.gz")


def test_metadata_that_is_no_object_is_refused(plain):
    (plain / "dataset.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"dataset\.json should hold one JSON object"):
        find_dataset(plain)


def test_images_to_predict_are_files_and_folders(tmp_path):
    touch(tmp_path, "in/b.nii.gz", "in/a_0000.nii.gz", "single_0007.nrrd")
    cases = find_images([tmp_path / "in", tmp_path / "single_0007.nrrd"], channels=1)
    assert [(case.id, case.images[0].name) for case in cases] == [
        ("a", "a_0000.nii.gz"),
        ("b", "b.nii.gz"),
        ("single_0007", "single_0007.nrrd"),
    ]


def test_channels_to_predict_are_joined_by_number(tmp_path):
    touch(tmp_path, "a_0001.nii.gz", "a_0000.nii.gz", "colour.png")
    cases = find_images([tmp_path], channels=2)
    assert [[image.name for image in case.images] for case in cases] == [
        ["a_0000.nii.gz", "a_0001.nii.gz"],
        ["colour.png"],
    ]


def test_everything_wrong_with_the_input_is_told_at_once(tmp_path):
    touch(
        tmp_path,
        "a_0000.nii.gz",
        "a_0002.nii.gz",
        "b_0000.nii.gz",
        "b_0001.nii.gz",
        "x/b_0001.nii.gz",
        "empty/notes.txt",
    )
    with pytest.raises(DatasetError) as caught:
        find_images([tmp_path, tmp_path / "x", tmp_path / "gone", tmp_path / "empty"], channels=2)
    message = str(caught.value)
    assert "the input: 2 of 2 cases cannot be used" in message
    assert f"{tmp_path / 'gone'} does not exist" in message
    assert f"{tmp_path / 'empty'} is or holds no image" in message
    assert "a: has the channels 0000, 0002, the model needs 2" in message
    assert "b: several files for one id" in message


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "layout", "cases", "channels"),
    [
        ("hippocampus", "Medical Segmentation Decathlon", 200, ("MRI",)),
        ("sarcoma", "nnU-Net raw", 21, ("CT",)),
        ("cells", "images/ and labels/", 100, ()),
        ("membrane", "images/ and labels/", 20, ()),
    ],
)
def test_real_datasets_are_recognised(real_data, name, layout, cases, channels):
    dataset = find_dataset(real_data / name)
    assert (dataset.layout, len(dataset.cases), dataset.channels, dataset.faults) == (layout, cases, channels, ())


def test_dicom_is_found_as_a_folder_of_slices_a_folder_of_folders_or_deeper(tmp_path: Path):
    made = pytest.importorskip("dicom_files", reason="needs pydicom, which the extra dicom installs")
    for name in ("a", "b"):
        made.write_series(tmp_path / "in" / name, made.ramp())
    (tmp_path / "in" / "reports").mkdir()
    report = made.write_series(tmp_path / "in" / "reports", made.ramp()[:1])[0]
    made.change(report, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    assert [case.id for case in find_images([tmp_path / "in"], channels=1)] == ["a", "b"]
    assert [case.id for case in find_images([tmp_path / "in" / "a"], channels=1)] == ["a"]
    assert [case.id for case in find_images([tmp_path], channels=1)] == ["a", "b"]
    one = made.write_enhanced(tmp_path / "in" / "all.dcm", made.ramp())
    assert [case.id for case in find_images([one], channels=1)] == ["all"]
    with pytest.raises(DatasetError, match=r"reports is or holds no image; nnlite reads .* folders of DICOM slices"):
        find_images([tmp_path / "in" / "reports"], channels=1)


def test_folders_of_dicom_slices_can_be_the_images_of_a_dataset(tmp_path: Path):
    made = pytest.importorskip("dicom_files", reason="needs pydicom, which the extra dicom installs")
    for name in ("a", "b"):
        made.write_series(tmp_path / "images" / name, made.ramp())
        touch(tmp_path, f"labels/{name}.nii.gz")
    found = find_dataset(tmp_path)
    assert [(case.id, case.images[0].name, case.label and case.label.name) for case in found.cases] == [
        ("a", "a", "a.nii.gz"),
        ("b", "b", "b.nii.gz"),
    ]
    assert found.faults == ()


def test_labels_of_a_table_are_named_in_a_file_beside_it(tmp_path: Path):
    touch(tmp_path, "a.nii")
    (tmp_path / "mine.csv").write_text("CT,label\na.nii,a.nii\n")
    assert find_dataset(tmp_path / "mine.csv").labels is None
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1}}')
    assert find_dataset(tmp_path / "mine.csv").labels == Labels.from_table({"liver": 1})
    (tmp_path / "labels.json").write_text('{"spleen": 1}')
    assert find_dataset(tmp_path / "mine.csv").labels == Labels.from_table({"spleen": 1})
    (tmp_path / "labels.json").write_text('{"labels": {"tumour": [1, 2], "core": 1}, "regions_class_order": [2, 1]}')
    assert find_dataset(tmp_path / "mine.csv").labels == Labels.from_table({"tumour": [1, 2], "core": 1}, [2, 1])
    (tmp_path / "labels.json").write_text('{"spleen": "big"}')
    [fault] = find_dataset(tmp_path / "mine.csv").faults
    assert fault.remedy == f"correct {tmp_path / 'labels.json'}"


def test_folds_beside_the_cases_come_with_the_dataset_without_those_that_are_excluded(plain: Path):
    folds = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]
    (plain / "splits_final.json").write_text(json.dumps(folds))
    (plain / "nnlite.json").write_text('{"exclude": ["b"]}')
    splits = find_dataset(plain).splits
    assert splits is not None
    assert (splits.rule, splits.reason) == ("dataset", "as in splits_final.json")
    assert [(fold.train, fold.validation) for fold in splits.folds] == [(("a",), ("c",)), (("c",), ("a",))]


def test_what_a_table_says_of_cases_can_be_said_in_nnlite_json_too(plain: Path):
    said = {"sites": {"a": "Rome"}, "annotated": {"b": ["liver"]}, "reference_channel": "channel 1"}
    (plain / "nnlite.json").write_text(json.dumps(said))
    dataset = find_dataset(plain)
    assert [(case.site, case.annotated) for case in dataset.cases] == [("Rome", None), (None, ("liver",)), (None, None)]
    assert dataset.reference == 1
    (plain / "nnlite.json").write_text('{"sites": {"z": "Rome"}, "annotated": {"y": []}}')
    assert [fault.what for fault in find_dataset(plain).faults] == [
        "\"sites\" names 'z', which is no case",
        "\"annotated\" names 'y', which is no case",
    ]
    (plain / "nnlite.json").write_text('{"channels": ["CT"], "reference_channel": "PET"}')
    with pytest.raises(DatasetError, match="the reference channel PET is no channel; there are CT"):
        find_dataset(plain)
    touch(plain, "images/a_0000.nii.gz", "images/a_0001.nii.gz")
    (plain / "images/a.nii.gz").unlink()
    (plain / "nnlite.json").write_text('{"reference_channel": "channel 2", "exclude": ["b", "c"]}')
    with pytest.raises(DatasetError, match="the reference channel channel 2 is no channel of a, which has fewer files"):
        find_dataset(plain)

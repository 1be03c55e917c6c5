"""BIDS: which files make a case, what the channels are, and what is said of labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnlite.data.bids import bids, is_bids
from nnlite.data.dataset import find_dataset
from nnlite.errors import DatasetError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    """Two subjects; the first has two sessions, one of which has an image that the others lack."""
    folder = tmp_path / "lesions"
    for case in ("01_ses-a", "01_ses-b", "02_ses-a"):
        home = "sub-" + case.replace("_", "/")
        touch(folder, *(f"{home}/anat/sub-{case}_{kind}.nii.gz" for kind in ("T1w", "FLAIR")))
        touch(folder / "derivatives/manual", f"{home}/anat/sub-{case}_space-orig_desc-lesion_mask.nii.gz")
    return touch(
        folder, "sub-01/ses-a/anat/sub-01_ses-a_acq-ce_T1w.nii.gz", "sub-01/ses-a/func/sub-01_ses-a_bold.nii.gz"
    )


def test_cases_are_sessions_and_channels_what_all_of_them_have(lesions: Path):
    found = bids(lesions)
    assert [(case.id, case.group) for case in found.cases] == [
        ("sub-01_ses-a", "sub-01"),
        ("sub-01_ses-b", "sub-01"),
        ("sub-02_ses-a", None),
    ]
    assert found.channels == ("FLAIR", "T1w")
    assert [path.name for path in found.cases[0].images] == ["sub-01_ses-a_FLAIR.nii.gz", "sub-01_ses-a_T1w.nii.gz"]
    assert found.label_table == {"lesion": 1}
    assert found.faults == []
    assert found.notes == [
        "not read as images: bold; to use such files, name them in a list of cases (a table)",
        "channels are the images that all cases have: FLAIR, T1w, of FLAIR (3 of 3), T1w (3 of 3), acq-ce_T1w (1 of 3)",
    ]


def test_a_dataset_is_recognised_with_its_labels_sites_and_those_without_a_label(lesions: Path):
    touch(lesions, "sub-03/ses-a/anat/sub-03_ses-a_T1w.nii.gz")
    (lesions / "participants.tsv").write_text("participant_id\tage\tsite\nsub-02\t61\tRome\n")
    dataset = find_dataset(lesions)
    assert (dataset.name, dataset.layout) == ("lesions", "BIDS (labels of manual)")
    assert [case.site for case in dataset.cases] == [None, None, "Rome"]
    assert dataset.notes[-1] == "1 without a label in manual are left out, sub-03_ses-a for one"
    assert dataset.labels is not None
    assert dataset.labels.in_words() == "0 background, 1 lesion"


def test_a_segmentation_comes_before_a_mask_and_its_values_are_named_in_a_table(lesions: Path):
    home = "sub-02/ses-a/anat/sub-02_ses-a"
    touch(lesions / "derivatives/manual", f"{home}_dseg.nii.gz")
    (lesions / "derivatives/manual/dseg.tsv").write_text("index\tname\tcolor\n0\tBackground\t#0\n4\tthalamus\t#1\n")
    dataset = find_dataset(lesions)
    assert dataset.cases[2].label == lesions / f"derivatives/manual/{home}_dseg.nii.gz"
    assert dataset.labels is not None
    assert dataset.labels.in_words() == "0 Background, 4 thalamus"
    (lesions / "derivatives/manual/dseg.tsv").write_text("value\tname\n4\tthalamus\n")
    with pytest.raises(DatasetError, match=r'dseg\.tsv: needs a column "index"'):
        find_dataset(lesions)


def test_scans_of_kinds_that_are_mostly_no_volumes_are_told_of(tmp_path: Path):
    touch(tmp_path, "sub-1/dwi/sub-1_dwi.nii.gz", "sub-2/dwi/sub-2_epi.nii.gz", "sub-1/anat/sub-1_probseg.nii.gz")
    touch(tmp_path / "derivatives/manual", "sub-1/anat/sub-1_dseg.nii.gz")
    told = r"not read as images: dwi; to use such files, name them in a list of cases"  # epi: of a case without a label
    with pytest.raises(DatasetError, match=rf"no case of .* has a label in .*; {told}"):
        find_dataset(tmp_path)
    touch(tmp_path, "sub-1/anat/sub-1_FLAIR.nii.gz")
    found = find_dataset(tmp_path)
    assert found.channels == ("FLAIR",)
    assert re.match(told, found.notes[0])


def test_several_folders_with_labels_are_named_and_one_of_them_may_be_given(lesions: Path):
    other = touch(lesions / "derivatives/network", "sub-02/ses-a/anat/sub-02_ses-a_dseg.nii.gz")
    with pytest.raises(DatasetError, match=rf"manual \(3\), {re.escape(str(other))} \(1\); give one of these folders"):
        bids(lesions)
    dataset = find_dataset(other)
    assert [case.id for case in dataset.cases] == ["sub-02_ses-a"]
    assert dataset.cases[0].images[0].is_relative_to(lesions / "sub-02")


def test_files_that_cannot_be_told_apart_and_labels_without_image_are_faults(lesions: Path):
    touch(lesions, "sub-02/ses-a/anat/sub-02_ses-a_desc-raw_T1w.nii.gz")
    touch(lesions / "derivatives/manual", "sub-01/ses-b/anat/sub-01_ses-b_desc-edema_mask.nii.gz")
    touch(lesions / "derivatives/manual", "sub-09/ses-a/anat/sub-09_ses-a_mask.nii.gz")
    faults = {fault.case: fault.what for fault in bids(lesions).faults}
    assert set(faults) == {"sub-02_ses-a", "sub-01_ses-b", "sub-09_ses-a"}
    assert faults["sub-09_ses-a"] == "a label but no image"
    assert faults["sub-01_ses-b"].startswith("several label maps: sub-01_ses-b_desc-edema_mask.nii.gz, ")
    assert faults["sub-02_ses-a"].startswith("several images of one kind: ")


def test_a_dataset_without_label_maps_says_where_they_are_looked_for(tmp_path: Path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    with pytest.raises(DatasetError, match=r"without label maps; nnlite looks for .*derivatives/NAME/sub-"):
        bids(tmp_path)


def test_folders_of_other_names_are_none(tmp_path: Path):
    assert not is_bids(touch(tmp_path, "sub-1/notes.txt", "patient/x.nii.gz"))

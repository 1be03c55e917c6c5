"""Which structures of a tree of DICOM files become which label, and what belongs to what."""

from __future__ import annotations

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest

from nnlite.data.dicom.series import read_series
from nnlite.data.dicom.stack import stack
from nnlite.errors import DatasetError, ImageError, UsageError
from nnlite.interop.dicom_dataset import DicomDataset, find_cases, read_image, read_label
from nnlite.interop.rtstruct import write_structures

SHAPE = (5, 16, 18)


def drawn(folder: Path, patient: str, names: tuple[str, ...] = ("Liver", "GTV 1"), uid: str = "") -> np.ndarray:
    """A CT of a patient with a structure set in another folder; label 2 lies in the middle of label 1."""
    uid = uid or f"1.2.3.{sum(map(ord, patient))}"
    made.write_series(
        folder / patient / "ct", made.ramp(SHAPE), PatientID=patient, SeriesInstanceUID=uid, prefix=uid[-3:]
    )
    indices = np.zeros(SHAPE, dtype=np.uint8)
    indices[1:4, 2:13, 3:14] = 1
    indices[2, 5:9, 6:10] = 2
    slices = stack(read_series(folder / patient / "ct", uid))
    write_structures(folder / patient / f"rs{uid[-3:]}.dcm", indices, names, slices)
    return indices


def label_of(dataset: DicomDataset, number: int = 0) -> np.ndarray:
    case = dataset.cases[number]
    return read_label(case, dataset, read_image(case)[1])[0]


def test_series_and_structures_find_each_other_wherever_they_lie(tmp_path: Path):
    indices = drawn(tmp_path, "Ann")
    drawn(tmp_path, "Bob")
    (tmp_path / "notes.txt").write_text("no DICOM")
    found = find_cases(tmp_path)
    assert [case.id for case in found.cases] == ["Ann", "Bob"]
    assert (found.channel, found.labels.names) == ("CT", ("background", "Liver", "GTV 1"))
    assert (found.faults, found.notes) == ((), ())
    np.testing.assert_array_equal(label_of(found), indices)
    np.testing.assert_array_equal(read_image(found.cases[0])[0], made.ramp(SHAPE) - 1024)


def test_structures_are_chosen_renamed_and_united_in_the_order_given(tmp_path: Path):
    indices = drawn(tmp_path, "Ann")
    drawn(tmp_path, "Bob", names=("LIVER", "gtv 2"))
    found = find_cases(tmp_path, ["tumour=GTV*", "liver"])
    assert found.labels.in_words() == "0 background, 1 tumour, 2 liver"
    np.testing.assert_array_equal(label_of(found, 1), np.array([0, 2, 1])[indices])
    only = find_cases(tmp_path, ["all=liver", "all=gtv*"])
    assert only.labels.names == ("background", "all")
    np.testing.assert_array_equal(label_of(only), indices > 0)


def test_spellings_that_differ_in_case_are_one_structure(tmp_path: Path):
    drawn(tmp_path, "Ann")
    drawn(tmp_path, "Bob", names=("LIVER", "GTV 1"))
    assert find_cases(tmp_path).labels.foreground == ("Liver", "GTV 1")


def test_overlaps_go_to_the_higher_value_and_are_told(tmp_path: Path):
    indices = drawn(tmp_path, "Ann")
    whole = np.where(indices > 0, 1, 0).astype(np.uint8)
    slices = stack(read_series(tmp_path / "Ann" / "ct"))
    write_structures(tmp_path / "more.dcm", whole, ("Body [all]",), slices)
    found = find_cases(tmp_path, ["Body [all]", "GTV 1"])
    case = found.cases[0]
    label, notes = read_label(case, found, slices)
    np.testing.assert_array_equal(label, indices)  # the whole as 1, the tumour painted over it as 2
    assert notes == ("GTV 1 covers 16 voxels of other labels",)


def test_a_structure_that_a_case_lacks_is_told(tmp_path: Path):
    drawn(tmp_path, "Ann")
    drawn(tmp_path, "Bob", names=("Liver", "other"))
    found = find_cases(tmp_path, ["Liver", "GTV 1"])
    bob = found.cases[1]
    assert read_label(bob, found, read_image(bob)[1])[1] == ("has no GTV 1; its voxels count as background",)
    only = find_cases(tmp_path, ["GTV 1"])
    with pytest.raises(ImageError, match=r"has none of the structures asked for, but Liver, other; name one of these"):
        read_label(bob, only, read_image(bob)[1])


def test_several_series_of_a_patient_are_numbered_and_belong_together(tmp_path: Path):
    drawn(tmp_path, "Ann")
    drawn(tmp_path, "Ann", uid="1.2.3.777")
    found = find_cases(tmp_path)
    assert [(case.id, case.patient) for case in found.cases] == [("Ann_1", "Ann"), ("Ann_2", "Ann")]


def test_a_number_makes_no_id_that_another_patient_has(tmp_path: Path):
    for patient, uid in (("A", "1.2.3.777"), ("A", "1.2.3.778"), ("A_1", "")):
        drawn(tmp_path, patient, uid=uid)
    found = find_cases(tmp_path)
    assert sorted((case.id, case.patient) for case in found.cases) == [("A_1", "A_1"), ("A_2", "A"), ("A_3", "A")]


def test_names_of_patients_become_names_of_files(tmp_path: Path):
    made_of = tmp_path / "x"
    drawn(made_of, "P 1")
    for path in (made_of / "P 1" / "ct").iterdir():
        made.change(path, PatientID="../a:b c")
    assert find_cases(made_of).cases[0].id == "a_b_c"


def test_what_belongs_to_no_series_is_told_and_left_out(tmp_path: Path):
    drawn(tmp_path, "Ann")
    drawn(tmp_path, "Bob")
    for path in (tmp_path / "Bob" / "ct").iterdir():
        path.unlink()
    (tmp_path / "broken.dcm").write_text("no DICOM")
    found = find_cases(tmp_path)
    assert [case.id for case in found.cases] == ["Ann"]
    assert "is left out: the series 1.2.3.275 is not in" in found.notes[0]  # B + o + b = 66 + 111 + 98
    assert "broken.dcm: is no DICOM file" in found.faults[0]


def test_folders_without_cases_with_mixed_modalities_and_unknown_names_are_refused(tmp_path: Path):
    drawn(tmp_path / "a", "Ann")
    with pytest.raises(UsageError, match=r'no structure is called "spleen"; there are: Liver, GTV 1'):
        find_cases(tmp_path / "a", ["spleen"])
    with pytest.raises(DatasetError, match=r"found 1 image series and 0 segmentations or structure sets, but none"):
        find_cases(tmp_path / "a" / "Ann" / "ct")
    drawn(tmp_path / "a", "Bob")
    for path in (tmp_path / "a" / "Bob" / "ct").iterdir():
        made.change(path, Modality="MR")
    with pytest.raises(DatasetError, match=r"mixes modalities \(1 CT, 1 MR series\); convert each from a folder"):
        find_cases(tmp_path / "a")

"""DICOM with structures in, a dataset that nnlite reads out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from skimage.io import imsave

from nnlite import pipeline
from nnlite.data.dicom.series import read_series
from nnlite.data.dicom.stack import stack
from nnlite.data.image import read_image, read_label
from nnlite.errors import DatasetError, UsageError
from nnlite.interop.dataset_layouts import LayoutName
from nnlite.interop.rtstruct import write_structures

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Three oblique CTs with a block each; the last two are of one patient."""
    for number, patient in enumerate(("Ann", "Bob", "Bob")):
        folder, uid = tmp_path / "dicom" / f"scan {number}", f"1.2.3.{number}"
        made.write_series(
            folder, made.ramp((5, 8, 9), seed=number), orientation=OBLIQUE, PatientID=patient, SeriesInstanceUID=uid
        )
        indices = np.zeros((5, 8, 9), dtype=np.uint8)
        indices[1:3, 2:4, number : number + 3] = 1
        write_structures(folder / "rs.dcm", indices, ("block",), stack(read_series(folder)))
    return tmp_path / "dicom"


def test_the_dataset_is_faultless_and_holds_the_voxels(patients: Path, tmp_path: Path):
    reported = []
    result = pipeline.convert(patients, tmp_path / "out", progress=lambda *step: reported.append(step))
    assert result.cases == ("Ann", "Bob_1", "Bob_2")
    assert (result.channel, result.labels.foreground, result.notes) == ("CT", ("block",), ())
    assert reported[-1] == ("convert", 3, 3)
    assert json.loads((tmp_path / "out" / "nnlite.json").read_text()) == {
        "channels": ["CT"],
        "labels": {"background": 0, "block": 1},
        "groups": {"Bob_1": "Bob", "Bob_2": "Bob"},
    }
    report = pipeline.check(tmp_path / "out", work=tmp_path / "work")
    assert (report.faults, report.warnings) == ((), ())
    image, label = (read_image(tmp_path / "out" / kind / "Bob_2.nii.gz") for kind in ("images", "labels"))
    source = read_image(patients / "scan 2")
    np.testing.assert_array_equal(image.array, source.array)
    assert image.geometry.differences(source.geometry) == []
    assert label.array.sum() == 2 * 2 * 3
    spared = np.asarray(source.stored.as_stored(label.array)[0], dtype=bool)
    assert spared[1:3, 2:4, 2:5].all()


def test_series_without_a_patient_are_not_of_one_and_it_is_told(patients: Path, tmp_path: Path):
    for path in patients.rglob("*.dcm"):
        if path.name != "rs.dcm":
            made.change(path, PatientID=" ")
    result = pipeline.convert(patients, tmp_path / "out")
    assert result.cases == ("patient_1", "patient_2", "patient_3")
    assert "groups" not in json.loads((tmp_path / "out" / "nnlite.json").read_text())
    [note] = result.notes
    assert note.startswith("3 of 3 series state no patient (patient_1, patient_2, patient_3) and count as one each")


def test_dicom_files_become_a_dataset_of_any_layout_at_once(patients: Path, tmp_path: Path):
    result = pipeline.convert(patients, tmp_path / "raw", to="nnunet")
    assert result.cases == ("Ann", "Bob_1", "Bob_2")
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
        "dataset.json",
        "imagesTr",
        "labelsTr",
        "nnlite.json",
        "splits_final.json",
    ]
    label = read_label(tmp_path / "raw/labelsTr/Bob_2.nii.gz")
    assert label.array.sum() == 2 * 2 * 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(UsageError, match="--link is for datasets"):
        pipeline.convert(patients, tmp_path / "linked", link=True)


def test_the_labels_fit_the_folders_of_slices_themselves(patients: Path, tmp_path: Path):
    pipeline.convert(patients, tmp_path / "out")
    for name, scan in (("Ann", "scan 0"), ("Bob_1", "scan 1")):
        shutil.copytree(patients / scan, tmp_path / "mixed" / "images" / name)
        (tmp_path / "mixed" / "labels").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "out" / "labels" / f"{name}.nii.gz", tmp_path / "mixed" / "labels")
    report = pipeline.check(tmp_path / "mixed", work=tmp_path / "work")
    assert (report.faults, len(report.dataset.cases)) == ((), 2)


@pytest.mark.parametrize(("layout", "images"), [("folder", "images"), ("nnunet", "imagesTr")])
def test_what_cannot_be_converted_is_told_at_the_end_and_the_others_are_there(
    layout: LayoutName, images: str, patients: Path, tmp_path: Path
):
    next((patients / "scan 1").glob("002.dcm")).unlink()
    (patients / "scan 0" / "broken.dcm").write_text("no DICOM")
    with pytest.raises(DatasetError) as error:
        pipeline.convert(patients, tmp_path / "out", to=layout)
    headline, *faults = str(error.value).splitlines()
    assert headline == f"{patients}: not all could be converted, the other cases (2) are in {tmp_path / 'out'}:"
    assert "broken.dcm: is no DICOM file, or a damaged one; get the file again, or remove it" in faults[0]
    assert "Bob_1" in faults[1]
    assert "1 slices are missing" in faults[1]
    names = [path.name.split(".")[0].removesuffix("_0000") for path in sorted((tmp_path / "out" / images).iterdir())]
    assert names == ["Ann", "Bob_2"]


@pytest.mark.parametrize("layout", ["folder", "nnunet"])
@pytest.mark.parametrize("place", [".", "link"])
def test_a_folder_that_is_there_and_empty_is_filled(
    place: str, layout: LayoutName, patients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty" if place == "." else tmp_path)
    result = pipeline.convert(patients, Path(place), to=layout)
    assert (result.folder, result.cases) == (Path(place), ("Ann", "Bob_1", "Bob_2"))
    folders = {"folder": {"images", "labels"}, "nnunet": {"imagesTr", "labelsTr"}}[layout]
    assert {path.name for path in (tmp_path / "empty").iterdir() if path.is_dir()} == folders


def test_where_no_case_can_be_converted_nothing_is_written(patients: Path, tmp_path: Path):
    for image in patients.glob("scan */001.dcm"):
        image.unlink()
    with pytest.raises(DatasetError, match="not all could be converted, nothing was written:"):
        pipeline.convert(patients, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [patients.name]


def test_an_interrupted_conversion_leaves_nothing_and_can_be_repeated(patients: Path, tmp_path: Path):
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.convert(patients, tmp_path / "out", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == [patients.name]
    assert pipeline.convert(patients, tmp_path / "out").folder == tmp_path / "out"


def test_nothing_is_written_over_and_only_folders_are_converted(patients: Path, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match=r"full is there already; give a new folder with -o"):
        pipeline.convert(patients, tmp_path / "full")
    with pytest.raises(UsageError, match=r"gone does not exist; give a dataset, or a folder of DICOM files"):
        pipeline.convert(tmp_path / "gone", tmp_path / "out")
    with pytest.raises(DatasetError, match=r"mine\.txt is a file; give the folder of a dataset"):
        pipeline.convert(tmp_path / "full" / "mine.txt", tmp_path / "out")


@pytest.mark.realdata
def test_a_real_ct_with_its_structure_set_becomes_a_dataset(real_data: Path, tmp_path: Path):
    result = pipeline.convert(real_data / "dicom" / "STS_001", tmp_path / "out", structures=["tumour=GTV*"])
    assert (result.cases, result.labels.foreground) == (("STS_001",), ("tumour",))
    image = read_image(tmp_path / "out" / "images" / "STS_001.nii.gz")
    label = read_label(tmp_path / "out" / "labels" / "STS_001.nii.gz")
    assert image.geometry.differences(label.geometry) == []
    assert -200 < np.median(image.array[label.array > 0]) < 200  # soft tissue in HU: the mask lies where it should


def test_label_maps_that_number_their_objects_stay_as_they_are(tmp_path: Path):
    numbers = np.zeros((16, 16), dtype=np.uint8)
    numbers[2:5, 2:5], numbers[8:12, 8:12] = 1, 2
    for case in ("a", "b"):
        for folder, picture in (("images", 9 * numbers), ("labels", numbers)):
            (tmp_path / "cells" / folder).mkdir(parents=True, exist_ok=True)
            imsave(tmp_path / "cells" / folder / f"{case}.png", picture, check_contrast=False)
    (tmp_path / "cells" / "nnlite.json").write_text('{"instances": "numbered"}')
    with pytest.raises(UsageError, match="number single objects, which other layouts would take for labels"):
        pipeline.convert(tmp_path / "cells", tmp_path / "out", to="nnunet")
    assert not (tmp_path / "out").exists()

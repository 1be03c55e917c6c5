"""Predicting DICOM: the masks are those of the same voxels as NIfTI, in whichever form they are written."""

from __future__ import annotations

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.dicom.series import read_series
from nnlite.data.dicom.stack import stack
from nnlite.data.geometry import grids
from nnlite.data.image import read_image, read_label, write_image
from nnlite.errors import ImageError, UsageError
from nnlite.interop.dicom_seg import read_segments
from nnlite.interop.rtstruct import read_structures

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


@pytest.fixture(scope="module")
def scans(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two balls as DICOM, ball_0 in coronal slices, each in a folder of its own, and ball_0 again as NIfTI."""
    folder = tmp_path_factory.mktemp("scans")
    for number, orientation in enumerate((CORONAL, made.AXIAL)):
        voxels = np.rint(read_image(balls / "images" / f"ball_{number}.nii.gz").array[0]).astype(np.int16)
        paths = made.write_series(
            folder / "dicom" / f"ball_{number}", voxels, orientation=orientation, RescaleIntercept=0, Modality="MR"
        )
        assert len(paths) == 16
    image = read_image(folder / "dicom" / "ball_0")
    write_image(folder / "nifti" / "ball_0.nii.gz", image.stored.as_stored(image.array), image.stored.geometry)
    return folder


def predict(inputs: list[Path], output: Path, balls: Path, work: Path, **options: object) -> pipeline.PredictResult:
    given: dict[str, object] = {"work": work, "device": "cpu", "mirroring": False, "folds": ("fold0",), **options}
    return pipeline.predict(balls, inputs, output, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def nifti_mask(scans: Path, balls: Path, trained_work: Path) -> np.ndarray:
    """What is predicted for ball_0 as NIfTI."""
    [mask] = predict([scans / "nifti"], scans / "masks", balls, trained_work).masks
    values = read_label(mask).array[0]
    assert len(np.unique(values)) > 1
    return values


def test_a_folder_of_folders_is_predicted_case_by_case_as_nifti(
    scans: Path, nifti_mask: np.ndarray, balls: Path, trained_work: Path, tmp_path: Path
):
    result = predict([scans / "dicom"], tmp_path, balls, trained_work, previews=True)
    assert [mask.name for mask in result.masks] == ["ball_0.nii.gz", "ball_1.nii.gz"]
    mask = read_label(result.masks[0])
    np.testing.assert_array_equal(mask.array[0], nifti_mask)
    assert mask.geometry.differences(read_image(scans / "dicom" / "ball_0").geometry) == []
    assert (tmp_path / "ball_1.preview.png").exists()


@pytest.mark.parametrize("form", ["dicom-seg", "rtstruct"])
def test_the_mask_as_dicom_has_the_same_voxels(
    scans: Path, nifti_mask: np.ndarray, balls: Path, trained_work: Path, tmp_path: Path, form: str
):
    if form == "dicom-seg":
        pytest.importorskip("highdicom", reason="needs highdicom, which the extra dicom installs")
    [path] = predict([scans / "dicom" / "ball_0"], tmp_path, balls, trained_work, output_format=form).masks
    assert path == tmp_path / "ball_0.dcm"
    slices = stack(read_series(scans / "dicom" / "ball_0"))
    read = read_segments if form == "dicom-seg" else read_structures
    masks = read(path, slices, ("ball", "core"))
    stored, _ = grids(slices.geometry, ".nii.gz")
    for name, value in (("ball", 1), ("core", 7)):
        np.testing.assert_array_equal(stored.canonical(masks[name][None])[0], nifti_mask == value)


def test_one_series_of_several_is_chosen_and_the_mask_refers_to_it(
    scans: Path, balls: Path, trained_work: Path, tmp_path: Path
):
    for number in (1, 2):
        made.write_series(
            tmp_path / "both", made.ramp((4 + number, 12, 12)), prefix=str(number), SeriesInstanceUID=f"1.2.{number}"
        )
    given = {"series": "1.2.1", "output_format": "rtstruct"}
    [path] = predict([tmp_path / "both"], tmp_path / "out", balls, trained_work, **given).masks
    frame = made.pydicom.dcmread(path).ReferencedFrameOfReferenceSequence[0]
    assert frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.1"


def test_dicom_is_only_written_for_dicom(scans: Path, balls: Path, trained_work: Path, tmp_path: Path):
    for form in ("dicom-seg", "rtstruct"):
        wanted = rf"ball_0\.nii\.gz is no DICOM series, .* leave out --output-format {form}"
        with pytest.raises(UsageError, match=wanted):
            predict([scans / "nifti"], tmp_path, balls, trained_work, output_format=form)
    with pytest.raises(UsageError, match=r"--series chooses among DICOM series, and .*ball_0\.nii\.gz is none"):
        predict([scans / "nifti"], tmp_path, balls, trained_work, series="3")


def test_a_broken_series_is_told_at_the_end_and_the_others_are_predicted(
    scans: Path, balls: Path, trained_work: Path, tmp_path: Path
):
    made.write_series(tmp_path / "in" / "good", made.ramp((5, 12, 12)))
    gap = made.write_series(tmp_path / "in" / "gap", made.ramp((5, 12, 12)))
    gap[2].unlink()
    with pytest.raises(ImageError, match=r"1 of 2 cases could not be predicted(.|\n)*gap: .*1 slices are missing"):
        predict([tmp_path / "in"], tmp_path / "out", balls, trained_work)
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["good.nii.gz"]

"""Which series of a folder is read, by rule and by name."""

from __future__ import annotations

import logging
from pathlib import Path

import dicom_files as made
import pytest

from nnlite.data.dicom.series import read_series, series_in
from nnlite.errors import ImageError


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with a CT of five slices, one of four, and a scout without a place."""
    made.write_series(tmp_path, made.ramp(), prefix="a")
    made.write_series(
        tmp_path, made.ramp()[:4], prefix="b", SeriesInstanceUID="1.2.3.5", SeriesNumber=5, SeriesDescription="Bone"
    )
    for path in made.write_series(tmp_path, made.ramp((6, 6, 7)), prefix="c", SeriesInstanceUID="1.2.3.6"):
        made.change(path, ImagePositionPatient=None)
    return tmp_path


def test_the_series_with_most_slices_that_have_a_place_is_read_and_the_others_are_told_of(
    mixed: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        assert read_series(mixed).uid == "1.2.3.4"
    assert '4 "Thorax" (CT, 5 slices, 1.2.3.4) has most slices and is read, not: 5 "Bone"' in caplog.text
    assert sorted(series.uid for series in series_in(mixed)) == ["1.2.3.4", "1.2.3.5", "1.2.3.6"]


def test_a_series_is_chosen_by_uid_number_or_description(mixed: Path):
    for wanted in ("1.2.3.5", "5", "bone"):
        assert read_series(mixed, wanted).uid == "1.2.3.5"


def test_a_name_that_no_series_or_more_than_one_has_lists_them(mixed: Path):
    with pytest.raises(ImageError, match=r'no series is called "lung"; choose one by its UID: 4 "Thorax"'):
        read_series(mixed, "lung")
    with pytest.raises(ImageError, match=r'2 series are called "thorax"; choose one by its UID: .*1\.2\.3\.6'):
        read_series(mixed, "thorax")


def test_series_of_equal_length_are_not_guessed_between(tmp_path: Path):
    made.write_series(tmp_path, made.ramp(), prefix="a")
    made.write_series(tmp_path, made.ramp(), prefix="b", SeriesInstanceUID="1.2.3.5")
    with pytest.raises(ImageError, match=r"are equally long; choose one with --series, or keep one only"):
        read_series(tmp_path)


def test_a_series_without_places_is_refused(mixed: Path):
    with pytest.raises(ImageError, match=r"does not tell where its slices lie .* get the original series"):
        read_series(mixed, "1.2.3.6")


def test_a_folder_of_other_objects_and_a_single_slice_are_refused(tmp_path: Path):
    path, *_ = made.write_series(tmp_path, made.ramp())
    with pytest.raises(ImageError, match=r"is one slice of a series; give the folder"):
        read_series(path)
    for path in tmp_path.iterdir():
        made.change(path, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")  # a text report
    with pytest.raises(ImageError, match=r"holds no DICOM image, only other objects"):
        read_series(tmp_path)

"""Which files are DICOM, what kind of object they hold, and what a damaged one says."""

from __future__ import annotations

import builtins
from pathlib import Path

import dicom_files as made
import pytest

from nnlite.data.dicom.headers import (
    SEGMENTATION,
    STRUCTURE_SET,
    frames,
    headers,
    holds_dicom,
    holds_images,
    is_dicom,
    is_image,
    is_series,
    read_header,
)
from nnlite.errors import ImageError, UsageError


def test_dicom_is_known_by_its_content_or_by_its_name(tmp_path: Path):
    path, *_ = made.write_series(tmp_path / "a", made.ramp())
    nameless = path.rename(tmp_path / "a" / "IM0001")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "b" / ".hidden.dcm").write_text("no image")
    assert is_dicom(nameless)
    assert holds_dicom(tmp_path / "a")
    assert not holds_dicom(tmp_path / "b")
    assert not holds_dicom(tmp_path / "gone")
    assert is_series(tmp_path / "a")
    assert not is_series(nameless)


def test_a_text_under_the_name_of_dicom_is_told_of(tmp_path: Path):
    path = tmp_path / "a.dcm"
    path.write_text("these are no slices")
    with pytest.raises(ImageError, match=r"a\.dcm: is no DICOM file, or a damaged one; get the file again, or remove"):
        read_header(path)
    assert holds_images(tmp_path)  # so that reading it tells why


def test_a_file_that_may_not_be_read_or_is_gone_is_told_of(tmp_path: Path):
    with pytest.raises(ImageError, match=r"gone\.dcm: cannot be opened \(No such file"):
        read_header(tmp_path / "gone.dcm")


def test_a_header_that_is_cut_short_is_told_of(tmp_path: Path):
    path, *_ = made.write_series(tmp_path, made.ramp())
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"Thorax")])
    with pytest.raises(ImageError, match=r"\.dcm: .*cut short or damaged .*get the file again"):
        [frames(file, header) for file, header in headers(tmp_path)]


def test_other_objects_are_no_images(tmp_path: Path):
    file = made.header(made.ramp())
    assert is_image(file)
    for kind in (*SEGMENTATION, STRUCTURE_SET, "1.2.840.10008.1.3.10"):  # the last: a DICOMDIR
        file.SOPClassUID = kind
        assert not is_image(file)
    file.SOPClassUID = "1.2.840.113619.4.27"  # a private kind of image, with rows
    assert is_image(file)
    del file.SOPClassUID
    assert not is_image(file)


def test_without_pydicom_the_user_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, *_ = made.write_series(tmp_path, made.ramp())
    real = builtins.__import__

    def missing(name: str, *rest: object, **more: object) -> object:
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"pip install 'nnlite\[dicom\]'"):
        read_header(path)

"""SimpleITK's accounts of what went wrong, in plain words."""

from __future__ import annotations

import pytest

from nnlite.data.unreadable import cause, examined
from nnlite.errors import ImageError


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ("Exception thrown:\nUnable to determine ImageIO reader", "is no .mha image: damaged, or another kind of file"),
        ("sitk::ERROR:\nRefusing to change spacing from [1, 1, 1] to [0, 1, 1]", "the spacing in its header is not"),
        ("Bad direction, determinant is 0. Direction is\n0 0 0", "its axes lie in one plane or are empty"),
        ("only 5 bytes but received 3", "the file is cut short; get the file again"),
        (
            "sitk::ERROR:\nITK ERROR: TIFFImageIO(0x55897a157570): Problem reading the row: 3",
            "cannot be read, its header or its voxels are damaged (Problem reading the row: 3); get the file again",
        ),
        (
            "ITK ERROR\nReason: No such file or directory",  # said of files that are there
            "cannot be read, its header or its voxels are damaged; get the file again",
        ),
    ],
)
def test_an_account_becomes_a_cause_and_a_remedy(tmp_path, account, words):
    (tmp_path / "a.mha").write_bytes(b"x")
    assert cause(RuntimeError(account), tmp_path / "a.mha", ".mha").startswith(words)


def test_links_say_where_they_lead(tmp_path):
    (tmp_path / "a.nii").symlink_to(tmp_path / "nowhere.nii")
    (tmp_path / "b.nii").symlink_to(tmp_path / "b.nii")
    with pytest.raises(ImageError, match="is a link to a file that does not exist; copy the file here"):
        examined(tmp_path / "a.nii", ".nii")
    with pytest.raises(ImageError, match="is a link that leads back to itself"):
        examined(tmp_path / "b.nii", ".nii")


def test_what_lies_in_the_way_is_named(tmp_path):
    (tmp_path / "a.nii").mkdir()
    with pytest.raises(ImageError, match="is a folder, not a file; give the image itself"):
        examined(tmp_path / "a.nii", ".nii")
    with pytest.raises(ImageError, match="does not exist; see whether its name and its folder are right"):
        examined(tmp_path / "b.nii", ".nii")

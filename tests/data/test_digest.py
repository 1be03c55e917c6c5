from __future__ import annotations

from pathlib import Path

from nnlite.data.digest import digest


def test_a_digest_follows_the_content_and_not_the_name(tmp_path: Path):
    first, second = tmp_path / "a.nii", tmp_path / "b.nii"
    first.write_bytes(b"voxels")
    second.write_bytes(b"voxels")
    assert digest([first]) == digest([second])
    second.write_bytes(b"Voxels")
    assert digest([first]) != digest([second])
    assert digest([first, second]) != digest([second, first])


def test_content_does_not_move_unseen_from_one_file_to_the_next(tmp_path: Path):
    paths = [tmp_path / "image.nii", tmp_path / "label.nii"]
    digests = set()
    for contents in (b"ab", b""), (b"a", b"b"), (b"", b"ab"):
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        digests.add(digest(paths))
    assert len(digests) == 3


def test_the_voxels_beside_a_header_count(tmp_path: Path):
    header, voxels = tmp_path / "a.mhd", tmp_path / "a.raw"
    header.write_text("ElementDataFile = a.raw")
    voxels.write_bytes(b"\0")
    before = digest([header])
    voxels.write_bytes(b"\1")
    assert digest([header]) != before

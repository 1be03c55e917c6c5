"""Settings on disk: strict on the way in, whole on the way out."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from nnlite.data.records import FORMAT_VERSION, from_json, read_record, record, to_json, write_record, written_whole
from nnlite.errors import PlanError, WorkspaceError


@record
class Inner:
    size_mm: tuple[float, float]


@record
class Outer:
    name: str
    inner: dict[str, Inner]
    limit: float | None = None


EXAMPLE = Outer(name="a", inner={"x": Inner(size_mm=(1.0, 0.1))})


def test_a_record_returns_from_disk_as_it_was(tmp_path):
    write_record(tmp_path / "deep" / "a.json", EXAMPLE)
    assert read_record(tmp_path / "deep" / "a.json", Outer) == EXAMPLE


def test_a_record_cannot_be_changed():
    with pytest.raises(AttributeError):
        EXAMPLE.name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "x.json is not valid JSON"),
        ("[]", "should hold one JSON object"),
        ('{"name": "a", "inner": {}}', f"format_version None, this nnlite reads {FORMAT_VERSION}"),
        (
            '{"format_version": true, "name": "a", "inner": {}}',
            f"format_version True, this nnlite reads {FORMAT_VERSION}",
        ),
        ('{"format_version": 2, "name": "a"}', r"written by a newer nnlite: it has format_version 2.*update nnlite"),
        ("[" * 100_000, "x.json is not valid JSON: maximum recursion depth exceeded"),
        ('{"format_version": 1' + "0" * 5000 + "}", "x.json is not valid JSON: Exceeds the limit"),
        ('{"format_version": 1, "inner": {}}', "name: Field required"),
        ('{"format_version": 1, "name": "a", "inner": {}, "nme": 1}', "nme: Unexpected"),
        ('{"format_version": 1, "name": "a", "inner": {"x": {"size_mm": [1]}}}', r"inner\.x\.size_mm"),
        ('{"format_version": 1, "name": "a", "inner": {"x": {"size_mm": [1, 2], "y": 1}}}', r"inner\.x\.y: Unexpected"),
    ],
)
def test_whatever_is_unexpected_is_named_with_file_and_key(text, message):
    with pytest.raises(PlanError, match=message) as caught:
        from_json(text, Outer, source="x.json", error=PlanError)
    assert str(caught.value).startswith("x.json")


def test_the_format_version_is_written_first():
    assert to_json(EXAMPLE).startswith('{\n  "format_version": 1,')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WorkspaceError, match=r"a\.json cannot be read: No such file"):
        read_record(tmp_path / "a.json", Outer)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(PlanError, match=r"a\.json is no text"):
        read_record(tmp_path / "a.json", Outer, error=PlanError)


def test_an_absurdly_large_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing, which takes no room on the disk
    with pytest.raises(WorkspaceError, match=r"a\.json has 1099511627776 bytes"):
        read_record(tmp_path / "a.json", Outer)


def test_an_interrupted_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted() -> None:
        with written_whole(path) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "check the folder and its permissions")]
)
def test_a_disk_that_refuses_is_explained(tmp_path, number, message):
    def refused() -> None:
        with written_whole(tmp_path / "a.nii.gz") as beside:
            assert beside.name.endswith(".nii.gz")  # writers go by the suffix
            raise OSError(number, os.strerror(number))

    with pytest.raises(WorkspaceError, match=message):
        refused()
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_has_the_usual_permissions(tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    write_record(tmp_path / "a.json", EXAMPLE)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)

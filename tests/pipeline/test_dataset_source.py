"""A dataset is recognised, and what changed in it since it was planned is told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nnlite.data.dataset import find_dataset
from nnlite.data.records import read_record, write_record
from nnlite.errors import WorkspaceError
from nnlite.pipeline.dataset_source import (
    DatasetSource,
    case_signatures,
    edited_cases,
    other_cases,
    refuse_other_cases,
    remember_source,
)
from nnlite.workspace import Workspace


@pytest.fixture
def data(balls: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(balls, tmp_path / "balls"))


@pytest.fixture
def workspace(data: Path, tmp_path: Path) -> Workspace:
    """A workspace that remembers ``data`` as it is now."""
    made = Workspace(root=tmp_path / "work", dataset="balls")
    remember_source(find_dataset(data), made)
    return made


def remove(data: Path, case: str) -> None:
    for folder in ("images", "labels"):
        (data / folder / f"{case}.nii.gz").unlink()


def add(data: Path, case: str) -> None:
    for folder in ("images", "labels"):
        shutil.copy(data / folder / "ball_0.nii.gz", data / folder / f"{case}.nii.gz")


def test_a_dataset_that_was_left_alone_has_not_changed(data: Path, workspace: Workspace):
    found = find_dataset(data)
    assert (other_cases(found, workspace), edited_cases(found, workspace)) == (None, ())
    refuse_other_cases(found, workspace)


def test_added_and_removed_cases_are_named_with_the_ways_out(data: Path, workspace: Workspace):
    remove(data, "ball_1")
    for number in range(7):
        add(data, f"new_{number}")
    with pytest.raises(WorkspaceError) as refused:
        refuse_other_cases(find_dataset(data), workspace)
    assert str(refused.value) == (
        "balls has changed since it was planned: 1 case is no longer in the dataset (ball_1): put back what is "
        "missing; 7 cases are new (new_0, new_1, new_2, new_3, new_4, ..): list what is new under "
        '"exclude" in nnlite.json; or run nnlite plan again'
    )


def test_a_case_that_lost_its_label_is_gone(data: Path, workspace: Workspace):
    (data / "labels" / "ball_2.nii.gz").unlink()
    assert "1 case is no longer in the dataset (ball_2)" in str(other_cases(find_dataset(data), workspace))


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_a_file_that_was_written_again_makes_its_case_an_edited_one(data: Path, workspace: Workspace, folder: str):
    file = data / folder / "ball_3.nii.gz"
    state = file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert edited_cases(find_dataset(data), workspace) == ("ball_3",)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert edited_cases(find_dataset(data), workspace) == ()
    with file.open("ab") as longer:
        longer.write(b"\0")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert edited_cases(find_dataset(data), workspace) == ("ball_3",)


def test_the_plan_of_a_variant_remembers_cases_of_its_own(data: Path, workspace: Workspace):
    workspace.plan_of("big").write_text("{}")
    add(data, "new")
    (data / "labels" / "ball_3.nii.gz").touch()
    found = find_dataset(data)
    remember_source(found, workspace, "big")
    assert (other_cases(found, workspace, "big"), edited_cases(found, workspace, "big")) == (None, ())
    for plan in (
        None,
        "seed1",
    ):  # the dataset's is as old as it was, and a variant without a plan of its own follows it
        assert "1 case is new (new)" in str(other_cases(found, workspace, plan))
        assert edited_cases(found, workspace, plan) == ("ball_3",)
    remove(data, "new")
    found = find_dataset(data)
    refuse_other_cases(found, workspace)
    with pytest.raises(WorkspaceError, match=r"\(new\): put back what is missing; or run nnlite plan --as big again$"):
        refuse_other_cases(found, workspace, "big")
    remember_source(found, workspace)
    assert (other_cases(found, workspace), edited_cases(found, workspace)) == (None, ())
    assert "(new)" in str(other_cases(found, workspace, "big"))


def test_a_dataset_that_was_moved_with_its_dates_keeps_its_signatures(data: Path, tmp_path: Path):
    before = case_signatures(find_dataset(data))
    assert case_signatures(find_dataset(data.rename(tmp_path / "elsewhere"))) == before
    assert len(set(before.values())) == 5


def test_without_signatures_nothing_is_compared(data: Path, workspace: Workspace):
    write_record(workspace.source, DatasetSource(root=str(data)))
    assert read_record(workspace.source, DatasetSource).cases is None
    remove(data, "ball_1")
    refuse_other_cases(find_dataset(data), workspace)
    workspace.source.unlink()
    assert (other_cases(find_dataset(data), workspace), edited_cases(find_dataset(data), workspace)) == (None, ())


def test_a_slice_that_was_written_again_makes_the_case_of_its_folder_an_edited_one(data: Path):
    folder = data / "images" / "ball_3"
    (data / "images" / "ball_3.nii.gz").unlink()
    folder.mkdir()
    for name in ("1.dcm", "2.dcm"):
        (folder / name).write_bytes(b"slice")
    before = case_signatures(find_dataset(data))
    (folder / "2.dcm").write_bytes(b"another")
    after = case_signatures(find_dataset(data))
    assert {case for case in before if before[case] != after[case]} == {"ball_3"}

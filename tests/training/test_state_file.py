"""A training state comes back as it was written, or the one before it does; no other file is taken for one."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
import torch
from full_disk import disk_for_1_kb

from nnlite.errors import CheckpointError, WorkspaceError
from nnlite.training.state_file import COMMENT_BYTES, END_RECORD, load_newest, load_state, save_state

CPU = torch.device("cpu")
STATE = {"network": {"w": torch.arange(3000.0)}, "course": {"epoch": 2, "best": None, "rates": [0.1, 0.2]}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Where the newest state and the one before it lie."""
    return tmp_path / "last.pt", tmp_path / "previous.pt"


def written(files: tuple[Path, Path], epochs: int = 1) -> Path:
    """States of so many epochs, one after the other; the newest file."""
    for epoch in range(epochs):
        save_state(files[0], {**STATE, "epoch": epoch}, previous=files[1])
    return files[0]


def test_a_state_comes_back(files: tuple[Path, Path]) -> None:
    read = load_state(written(files), CPU)
    assert torch.equal(read["network"]["w"], STATE["network"]["w"])
    assert read["course"] == STATE["course"]


def test_torch_reads_the_file_as_any_other(files: tuple[Path, Path]) -> None:
    assert torch.load(written(files), weights_only=True)["course"] == STATE["course"]


def test_the_state_before_stays(files: tuple[Path, Path]) -> None:
    written(files, epochs=3)
    assert [load_state(path, CPU)["epoch"] for path in files] == [2, 1]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_state_that_was_cut_off_is_refused(share: float, files: tuple[Path, Path]) -> None:
    path = written(files)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged"):
        load_state(path, CPU)


def test_every_flipped_bit_is_noticed(files: tuple[Path, Path]) -> None:
    path = written(files)
    content, rng = path.read_bytes(), random.Random(0)
    for place in [*rng.sample(range(len(content)), 100), len(content) - 1]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            load_state(path, CPU)


def test_a_damaged_state_is_told_of_and_the_one_before_taken(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    written(files, epochs=2).write_bytes(b"torn")
    path, state = load_newest(*files, CPU)
    assert (path, state["epoch"]) == (files[1], 0)
    assert "last.pt is damaged" in caplog.text
    assert "training goes on from the one before it" in caplog.text


def test_a_process_killed_between_two_renames_has_lost_nothing(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    written(files).rename(files[1])
    assert load_newest(*files, CPU)[0] == files[1]
    assert caplog.text == ""


def test_where_neither_can_be_read_both_are_told_of(files: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"last\.pt.*No such file.*previous\.pt.*No such file.*to begin anew"):
        load_newest(*files, CPU)


class _Attack:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("attacked"),))


@pytest.mark.parametrize("writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_in_a_training_state_is_executed(writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer({"network": _Attack()}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "last.pt", CPU)
    assert not (tmp_path / "attacked").exists()


def test_a_signed_attack_is_not_executed_either(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files[0].parent)
    save_state(files[0], {"network": _Attack()}, previous=files[1])
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read as a training state"):
        load_state(files[0], CPU)
    assert not Path("attacked").exists()


def test_what_does_not_fit_on_the_disk_leaves_the_state_that_was_there(files: tuple[Path, Path]) -> None:
    before = written(files).read_bytes()
    with disk_for_1_kb(), pytest.raises(WorkspaceError, match=r"last\.pt could not be written"):
        save_state(files[0], STATE, previous=files[1])
    assert [path.read_bytes() for path in files[0].parent.iterdir()] == [before]


def test_a_flipped_bit_in_the_end_record_is_noticed_too(files: tuple[Path, Path]) -> None:
    """The last bytes before the comment: torch does not need most of them."""
    path = written(files)
    content = path.read_bytes()
    for place in range(len(content) - COMMENT_BYTES - END_RECORD.size, len(content) - COMMENT_BYTES):
        flipped = bytearray(content)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"last\.pt is damaged"):
            load_state(path, CPU)


def test_a_signed_tensor_of_a_terabyte_takes_no_memory(files: tuple[Path, Path]) -> None:
    save_state(files[0], {"network": {"w": torch.zeros(1).expand(2**38)}}, previous=files[1])
    with pytest.raises(CheckpointError, match=r"shape \(274877906944,\) has fewer values"):
        load_state(files[0], CPU)

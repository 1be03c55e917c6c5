"""The first process leads, the other follows: one fold, one set of files, and clear words where something is amiss."""

from __future__ import annotations

from pathlib import Path

import pytest
from joint_training import fold_together
from several_processes import joined_by_pipeline, together

from nnlite import pipeline
from nnlite.errors import ProcessLostError, UsageError, WorkspaceError
from nnlite.training.curves import read_log
from nnlite.training.ranks import Ranks
from nnlite.workspace import Workspace


@pytest.fixture
def planned(balls: Path, tmp_path: Path) -> Workspace:
    (tmp_path / "dataset.txt").write_text(str(balls))
    pipeline.plan(balls, work=tmp_path / "work", device="cpu", probe=False)
    return Workspace(root=tmp_path / "work", dataset="balls")


def test_two_processes_train_a_fold_as_one_does(planned: Workspace, trained_work: Path, tmp_path: Path):
    led, followed = together(fold_together, tmp_path, join=joined_by_pipeline)
    assert followed == "followed"
    assert led.startswith("2 epochs, Dice 0.")
    run, alone = planned.run("3d", "fold0"), Workspace(root=trained_work, dataset="balls").run("3d", "fold0")
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in alone.folder.iterdir()}
    for got, wanted in zip(read_log(run.log), read_log(alone.log), strict=True):
        # in bf16, where the machine has it, other batch sizes round otherwise
        assert got.train_loss == pytest.approx(wanted.train_loss, abs=0.02)


def test_a_process_that_does_not_see_the_cases_says_so_and_ends_the_training(planned: Workspace, tmp_path: Path):
    (tmp_path / "blind").touch()
    led, followed = together(fold_together, tmp_path, join=joined_by_pipeline)
    assert isinstance(followed, WorkspaceError)
    assert "does not see 4 preprocessed cases in" in str(followed)
    assert "choose a --work on a file system that they share" in str(followed)
    assert isinstance(led, ProcessLostError)


def test_more_processes_than_a_batch_has_samples_are_refused_before_anything_is_done(planned: Workspace, balls: Path):
    with pytest.raises(UsageError, match="cannot be shared by 99 processes"):
        pipeline.train(balls, "3d", ("fold0",), work=planned.root, device="cpu", ranks=Ranks(0, 99))
    assert not planned.run("3d", "fold0").folder.exists()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nnlite.pipeline.train_together.device_name", lambda device: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with (
        pytest.raises(UsageError, match=r"has 2 GPUs, and torchrun has started process 2 .*--nproc-per-node 2"),
        pipeline.processes(2, 4, local_number=2),
    ):
        pass

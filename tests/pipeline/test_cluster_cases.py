"""A prediction on two workers writes what one process writes, also when one of them is killed on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from nnlite import pipeline
from nnlite.errors import ImageError
from nnlite.workspace import Workspace


@pytest.fixture
def workspace(trained_work: Path, tmp_path: Path) -> Workspace:
    """A copy of the trained workspace, to be changed at will."""
    return Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_with_a_worker_killed_on_the_way_all_files_are_there_as_without_a_cluster(
    balls: Path, workspace: Workspace, scheduler: str, worker_processes: list[int], tmp_path: Path
):
    options = {"work": workspace.root, "device": "cpu", "mirroring": False, "previews": True, "entropy": True}
    alone = pipeline.predict(balls, [balls / "images"], tmp_path / "alone", **options)
    progress = []

    def kill_one(what: str, done: int, total: int) -> None:
        progress.append((what, done, total))
        if done == 1:
            os.kill(worker_processes[0], signal.SIGKILL)

    spread = pipeline.predict(
        balls, [balls / "images"], tmp_path / "spread", **options, cluster=scheduler, progress=kill_one
    )
    assert digests(tmp_path / "spread") == digests(tmp_path / "alone")
    assert len(digests(tmp_path / "alone")) == 5 * 4
    assert [mask.name for mask in spread.masks] == [mask.name for mask in alone.masks]
    assert spread.records == alone.records
    assert progress == [("predict", done, 5) for done in range(1, 6)]
    assert len(spread.seconds_per_case) == 5


def test_a_model_that_was_trained_anew_is_loaded_anew(
    balls: Path, workspace: Workspace, scheduler: str, tmp_path: Path
):
    options = {"work": workspace.root, "device": "cpu", "mirroring": False, "folds": ("fold0",)}
    image = balls / "images" / "ball_0.nii.gz"
    pipeline.predict(balls, [image], tmp_path / "before", **options, cluster=scheduler)
    first, second = (workspace.run("3d", fold).checkpoint_final for fold in ("fold0", "fold1"))
    shutil.copy(second, first)
    pipeline.predict(balls, [image], tmp_path / "after", **options, cluster=scheduler)
    pipeline.predict(balls, [image], tmp_path / "alone", **options)
    name = "ball_0.prediction.json"  # has numbers that no two networks share
    before, after, alone = (digests(tmp_path / folder)[name] for folder in ("before", "after", "alone"))
    assert after == alone != before


def test_images_that_cannot_be_read_are_told_of_when_the_others_are_predicted(
    balls: Path, workspace: Workspace, scheduler: str, tmp_path: Path
):
    images = Path(shutil.copytree(balls / "images", tmp_path / "images"))
    (images / "ball_2.nii.gz").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"1 of 5 cases could not be predicted(?s:.*)ball_2: ") as error:
        pipeline.predict(
            balls, [images], tmp_path / "out", work=workspace.root, device="cpu", mirroring=False, cluster=scheduler
        )
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4
    assert str(error.value).count("ball_2") >= 1


def test_what_was_predicted_before_an_interruption_is_not_predicted_again(
    balls: Path, workspace: Workspace, scheduler: str, tmp_path: Path
):
    options = {"work": workspace.root, "device": "cpu", "mirroring": False, "cluster": scheduler}

    class PowerCutError(Exception):
        pass

    def cut(what: str, done: int, total: int) -> None:
        if done == 3:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        pipeline.predict(balls, [balls / "images"], tmp_path / "out", **options, progress=cut)
    result = pipeline.predict(balls, [balls / "images"], tmp_path / "out", **options)
    assert len(result.masks) == 5
    assert len(result.seconds_per_case) == 3  # two had been noted

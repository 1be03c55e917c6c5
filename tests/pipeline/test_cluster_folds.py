"""Folds and preprocessing on two workers come to what they come to in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlite import pipeline
from nnlite.data.records import read_record
from nnlite.errors import DatasetError, StoppedError, UsageError
from nnlite.pipeline.run_config import RunConfig
from nnlite.preprocessing.store import CaseStore
from nnlite.training.checkpoint import load_model
from nnlite.training.curves import read_log
from nnlite.training.initial_weights import InitialWeights
from nnlite.workspace import Workspace

SHORT = {"device": "cpu", "epochs": 2, "iterations": 10}


@pytest.fixture
def planned(balls: Path, tmp_path: Path) -> Workspace:
    pipeline.plan(balls, work=tmp_path / "work", device="cpu", probe=False)
    return Workspace(root=tmp_path / "work", dataset="balls")


def test_folds_on_workers_are_those_of_one_process(balls: Path, planned: Workspace, trained_work: Path, scheduler: str):
    seen = []
    results = pipeline.train_on_cluster(
        balls,
        "3d",
        ("fold0", "fold1"),
        cluster=scheduler,
        work=planned.root,
        **SHORT,
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    assert [(result.fold, result.epochs, result.skipped) for result in results] == [
        ("fold0", 2, False),
        ("fold1", 2, False),
    ]
    alone = Workspace(root=trained_work, dataset="balls")
    for fold in ("fold0", "fold1"):
        got, wanted = (load_model(one.run("3d", fold).checkpoint_final).weights for one in (planned, alone))
        assert all((got[name] == wanted[name]).all() for name in wanted)
        assert planned.run("3d", fold).scores.read_text() == alone.run("3d", fold).scores.read_text()
    assert ("preprocess", 5, 5) in seen
    assert seen[-1] == ("train folds", 2, 2)


def test_it_is_told_of_each_fold_that_begins_which_weights_it_took(
    balls: Path, planned: Workspace, trained_work: Path, scheduler: str
):
    told: list[tuple[str, InitialWeights]] = []

    def train(*folds: str) -> None:
        options = {"work": planned.root, "device": "cpu", "epochs": 1, "iterations": 1}
        source = trained_work / "balls" / "runs" / "3d" / "fold0"
        pipeline.train_on_cluster(
            balls,
            "3d",
            folds,
            cluster=scheduler,
            init_from=source,
            on_init=lambda fold, initial: told.append((fold, initial)),
            **options,
        )

    train("fold0", "fold1")
    assert sorted(fold for fold, _ in told) == ["fold0", "fold1"]
    for fold, initial in told:
        assert initial == read_record(planned.run("3d", fold).config, RunConfig).initial
    assert {fold: bool(initial.remark) for fold, initial in told} == {"fold0": False, "fold1": True}
    told.clear()
    train("fold0", "fold2")
    assert [fold for fold, _ in told] == ["fold2"]  # the other is finished, and left as it is


def test_when_asked_to_stop_the_folds_save_and_the_same_command_goes_on(
    balls: Path, planned: Workspace, scheduler: str
):
    run = planned.run("3d", "fold0")
    options = {"cluster": scheduler, "work": planned.root, "device": "cpu", "iterations": 2}
    with pytest.raises(StoppedError, match="3d fold0 was stopped after"):
        pipeline.train_on_cluster(balls, "3d", ("fold0",), **options, epochs=10**6, stop=run.log.exists)
    assert run.checkpoint_last.exists()
    assert not run.lock.exists()
    before = len(read_log(run.log))
    [result] = pipeline.train_on_cluster(balls, "3d", ("fold0",), **options, epochs=before + 1, resume=True)
    assert (result.resumed_epochs, result.epochs) == (before, before + 1)


def test_what_is_wrong_is_told_before_a_cluster_is_asked(balls: Path, planned: Workspace):
    with pytest.raises(UsageError, match='has no fold "fold9"'):
        pipeline.train_on_cluster(balls, "3d", ("fold9",), cluster="tcp://127.0.0.1:9", work=planned.root)


def test_cases_are_preprocessed_by_workers_to_the_same_bytes_and_errors_name_the_case(
    balls: Path, planned: Workspace, scheduler: str, tmp_path: Path
):
    pipeline.plan(balls, work=tmp_path / "other", device="cpu", probe=False)
    other = Workspace(root=tmp_path / "other", dataset="balls")
    pipeline.preprocess(balls, ("3d", "2d"), work=planned.root, cluster=scheduler)
    pipeline.preprocess(balls, ("3d", "2d"), work=other.root)
    for name in ("3d", "2d"):
        ours, theirs = CaseStore(planned.cases(name)), CaseStore(other.cases(name))
        assert ours.ids() == theirs.ids()
        for case_id in ours.ids():
            assert ours.open(case_id).path.read_bytes() == theirs.open(case_id).path.read_bytes()


def test_a_label_that_changed_is_told_of_with_its_case(planned: Workspace, balls: Path, scheduler: str, tmp_path: Path):
    import shutil

    from nnlite.data.image import read_label, write_mask

    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    pipeline.plan(data, work=tmp_path / "third", device="cpu", probe=False)
    label = data / "labels" / "ball_4.nii.gz"
    truth = read_label(label)
    write_mask(label, truth.array[0] * 0 + 5, like=truth)
    with pytest.raises(DatasetError, match="changed since it was planned") as error:
        pipeline.preprocess(data, ("3d",), work=tmp_path / "third", cluster=scheduler)
    assert "case ball_4" in error.value.__notes__

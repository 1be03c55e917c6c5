"""Variants are planned, trained, listed and used for prediction like configurations, and share cases where they can."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nnlite import pipeline
from nnlite.data.records import read_record
from nnlite.errors import UsageError
from nnlite.pipeline.cross_validated import cross_validated, held_out_by_fold
from nnlite.pipeline.plan_dataset import read_plan
from nnlite.pipeline.run_config import RunConfig
from nnlite.training.config import TrainConfig
from nnlite.workspace import Workspace

SHORT: dict[str, object] = {"device": "cpu", "epochs": 2, "iterations": 2}


@pytest.fixture
def workspace(trained_work: Path, tmp_path: Path) -> Workspace:
    """A copy of the trained workspace, to be changed at will."""
    return Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")


def train(balls: Path, workspace: Workspace, name: str, *folds: str, **options: object) -> list[pipeline.TrainResult]:
    return list(pipeline.train(balls, name, folds, work=workspace.root, **options))  # type: ignore[arg-type]


def settings(workspace: Workspace, name: str, fold: str) -> TrainConfig:
    return read_record(workspace.run(name, fold).config, RunConfig).train


def test_a_variant_is_trained_beside_its_configuration_on_the_same_cases(balls: Path, workspace: Workspace) -> None:
    before = workspace.run("3d", "fold0").checkpoint_final.read_bytes()
    [result] = train(balls, workspace, "3d@other", "fold0", **SHORT, seed=1)
    assert result.folder == workspace.runs / "3d@other" / "fold0"
    assert result.scores is not None
    assert workspace.run("3d", "fold0").checkpoint_final.read_bytes() == before
    assert [folder.name for folder in workspace.cases("3d").parent.iterdir() if folder.is_dir()] == ["3d"]
    status = pipeline.status(balls, work=workspace.root)
    assert ("3d@other", "fold0", "done") in [(one.configuration, one.fold, one.state) for one in status.folds]
    output = workspace.root / "masks"
    image = next((balls / "images").iterdir())
    pipeline.predict(balls, [image], output, work=workspace.root, configuration="3d@other", device="cpu")
    assert any(output.glob("*.nii.gz"))


def test_further_folds_of_a_variant_are_trained_like_its_first(balls: Path, workspace: Workspace) -> None:
    train(balls, workspace, "3d@other", "fold0", **SHORT, seed=1)
    train(balls, workspace, "3d@other", "fold1", device="cpu")
    first, second = (read_record(workspace.run("3d@other", fold).config, RunConfig) for fold in ("fold0", "fold1"))
    assert (second.train, second.plan) == (first.train, first.plan)
    assert second.train.seed == 1


def test_all_of_a_variant_does_without_the_patience_of_its_folds_and_hands_none_of_that_on(
    balls: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    train(balls, workspace, "3d@patient", "fold0", **SHORT, patience=1, ema=0.9)
    train(balls, workspace, "3d@patient", "all", device="cpu")
    assert "3d@patient all holds no case out, so no patience ends it early, as that of 1 epochs may" in caplog.text
    train(balls, workspace, "3d@patient", "fold1", device="cpu")
    first, everything, second = (settings(workspace, "3d@patient", fold) for fold in ("fold0", "all", "fold1"))
    assert (first.patience, second) == (1, first)
    assert everything == replace(first, patience=None)


def test_a_plateau_is_left_by_another_schedule_where_a_variant_holds_no_case_out(
    balls: Path, workspace: Workspace
) -> None:
    train(balls, workspace, "3d@flat", "fold0", **SHORT, schedule="plateau")
    with pytest.raises(UsageError, match="3d@flat all holds none out: name another --schedule, or train one of"):
        train(balls, workspace, "3d@flat", "all", device="cpu")
    train(balls, workspace, "3d@flat", "all", device="cpu", schedule="constant")
    assert settings(workspace, "3d@flat", "all").schedule == "constant"


def test_what_the_first_fold_of_a_variant_has_can_be_taken_back(balls: Path, workspace: Workspace) -> None:
    on: dict[str, object] = {"ema": 0.9, "patience": 5, "curriculum": True, "deterministic": True}
    train(balls, workspace, "3d@much", "fold0", **SHORT, **on, loss="dice")
    back: dict[str, object] = {"ema": 0, "patience": 0, "curriculum": False, "deterministic": False}
    train(balls, workspace, "3d@much", "fold1", device="cpu", **back)
    plain, first, second = (
        settings(workspace, name, fold) for name, fold in (("3d", "fold0"), ("3d@much", "fold0"), ("3d@much", "fold1"))
    )
    assert second == replace(first, **{name: getattr(plain, name) for name in on})
    assert {name: getattr(first, name) for name in on} == on


def test_a_variant_of_which_nothing_is_known_or_asked_is_refused(balls: Path, workspace: Workspace) -> None:
    for same in ({}, {"loss": "ce+dice"}):  # the default in another order
        with pytest.raises(UsageError, match="3d@typo would be trained just as 3d: name what is to be different"):
            train(balls, workspace, "3d@typo", "fold0", device="cpu", **same)
    assert not (workspace.runs / "3d@typo").exists()


def test_a_planned_variant_lies_beside_the_plan_and_can_be_cross_validated(balls: Path, workspace: Workspace) -> None:
    before = workspace.plan.read_bytes()
    result = pipeline.plan(
        balls, work=workspace.root, device="cpu", overrides=["3d.batch_size=3"], variant="big", probe=False
    )
    assert result.path == workspace.folder / "plan@big.json"
    assert workspace.plan.read_bytes() == before
    plan = read_plan(workspace, "big")
    assert plan.configuration("3d@big").batch_size == 3
    assert read_plan(workspace, "other").configuration("3d@other").batch_size == 2
    folds = held_out_by_fold(workspace)
    train(balls, workspace, "3d@big", *folds, **SHORT)
    finished, _ = cross_validated(workspace, read_plan(workspace), folds)
    assert [(one.name, one.plan.configuration(one.name).batch_size) for one in finished] == [("3d@big", 3)]


def test_a_variant_that_preprocesses_otherwise_has_cases_of_its_own(balls: Path, workspace: Workspace) -> None:
    pipeline.plan(
        balls, work=workspace.root, device="cpu", overrides=["3d.normalization=none"], variant="raw", probe=False
    )
    folders = pipeline.preprocess(balls, ["3d", "3d@raw"], work=workspace.root)
    assert folders == {"3d": workspace.cases("3d"), "3d@raw": workspace.cases("3d@raw")}
    assert any(workspace.cases("3d@raw").iterdir())


def test_plans_from_another_plan_lose_the_name_of_its_variant(balls: Path, workspace: Workspace) -> None:
    pipeline.plan(balls, work=workspace.root, device="cpu", variant="big", probe=False)
    again = pipeline.plan(balls, work=workspace.root, from_plan=workspace.plan_of("big"), probe=False)
    assert all("@" not in name for name in again.plan.configurations)

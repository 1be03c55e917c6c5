"""Held-out cases keep what was measured of them; select judges it, and measures once more only what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nnlite import pipeline
from nnlite.data.split import Split
from nnlite.evaluation.scores import read_scores
from nnlite.inference.reliability import LabelFeatures
from nnlite.pipeline.reliability import Measured, judge, read_measured, read_reliability, write_measured
from nnlite.workspace import Workspace

PAIR = ("2d", "3d")


@pytest.fixture
def workspace(cross_validated_work: Path, tmp_path: Path) -> Workspace:
    return Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")


def select(balls: Path, workspace: Workspace, most: int = 1) -> list[str]:
    """Select, and tell what was reported on the way."""
    reported: list[str] = []
    pipeline.select(
        balls,
        work=workspace.root,
        most=most,
        device="cpu",
        progress=lambda what, done, total: reported.append(f"{what} {done}/{total}"),
    )
    return reported


def test_a_trained_fold_has_the_features_of_its_held_out_cases(workspace: Workspace):
    run = workspace.run("3d", "fold0")
    measured = read_measured(run)
    assert set(measured) == set(read_scores(run.scores, run.summary).cases)
    for features in measured.values():
        assert [one.label for one in features] == ["ball", "core"]
        assert all(one.fold_agreement is None and one.configuration_agreement is None for one in features)
        assert all(0 < (one.flip_agreement or 0) <= 1 for one in features if one.estimated_dice is not None)
    assert any(one.estimated_dice is not None for features in measured.values() for one in features)


def test_what_is_missing_is_measured_again_and_nothing_else(balls: Path, workspace: Workspace):
    assert not any("measure reliability" in line for line in select(balls, workspace))
    rows = read_reliability(workspace)
    assert {(row.case, row.label) for row in rows} == {
        (f"ball_{number}", label) for number in range(5) for label in ("ball", "core")
    }
    chosen, other = (workspace.run(name, "fold0") for name in ("3d", "2d"))
    before = {path: path.stat().st_mtime_ns for path in chosen.validation.iterdir()}
    kept = chosen.reliability.read_text()
    for run in (chosen, other):
        run.reliability.unlink()
    reported = [line for line in select(balls, workspace) if "measure reliability" in line]
    assert reported == [f"measure reliability of 3d fold0 {done}/{len(before)}" for done in range(1, len(before) + 1)]
    assert chosen.reliability.read_text() == kept
    assert not other.reliability.exists()
    assert {path: path.stat().st_mtime_ns for path in chosen.validation.iterdir()} == before
    assert read_reliability(workspace) == rows


def test_what_was_measured_before_an_interruption_stays(balls: Path, workspace: Workspace):
    select(balls, workspace)
    run = workspace.run("3d", "fold0")
    kept = read_measured(run)
    run.reliability.unlink()

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("measure reliability"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.select(balls, work=workspace.root, most=1, device="cpu", progress=interrupt)
    [(case_id, features)] = read_measured(run).items()
    assert features == kept[case_id]


def test_an_ensemble_s_cases_tell_how_its_configurations_agree(balls: Path, workspace: Workspace):
    select(balls, workspace, most=2)
    measured = read_measured(workspace.ensemble(PAIR))
    assert len(measured) == 5
    found = [one for features in measured.values() for one in features if one.estimated_dice is not None]
    assert found
    assert all(0 < (one.configuration_agreement or 0) <= 1 and one.flip_agreement is not None for one in found)


def features(estimated: float | None) -> tuple[LabelFeatures, ...]:
    return (
        LabelFeatures(
            label="ball",
            estimated_dice=estimated,
            flip_agreement=estimated,
            fold_agreement=None,
            configuration_agreement=None,
        ),
    )


def test_rows_hold_no_number_where_there_is_none(tmp_path: Path):
    measured: Measured = {f"case_{number}": features(0.5 + number / 50) for number in range(24)}
    measured["empty"] = features(None)
    dice = {(case, "ball"): 0.2 + number / 40 for number, case in enumerate(measured)} | {
        ("empty", "ball"): float("nan")
    }
    ids = tuple(measured)
    folds = {
        "fold0": Split(train=ids[12:], validation=ids[:12]),
        "fold1": Split(train=ids[:12], validation=ids[12:]),
    }
    calibrations, rows = judge(measured, dice, folds)
    assert calibrations["ball"].mean_absolute_error == pytest.approx(0, abs=1e-6)
    assert (calibrations["ball"].not_predicted, calibrations["ball"].missed) == (1, 0)
    assert [row.fold for row in rows] == ["fold0"] * 12 + ["fold1"] * 13
    assert (rows[-1].case, rows[-1].dice, rows[-1].expected_dice) == ("empty", None, None)
    assert read_reliability(Workspace(root=tmp_path, dataset="none")) == ()
    run = Workspace(root=tmp_path, dataset="none").run("3d", "fold0")
    write_measured(run, measured)
    assert read_measured(run) == measured


def test_labels_that_a_case_has_not_annotated_have_no_row_and_are_no_miss():
    measured: Measured = {f"case_{number}": features(0.5 + number / 50) for number in range(24)}
    measured["unknown"] = features(None)  # nothing was predicted, and nobody knows whether that is right
    dice = {(case, "ball"): 0.2 + number / 40 for number, case in enumerate(measured) if case != "unknown"}
    ids = tuple(measured)
    folds = {"fold0": Split(train=ids[12:], validation=ids[:12]), "fold1": Split(train=ids[:12], validation=ids[12:])}
    calibrations, rows = judge(measured, dice, folds)
    assert (calibrations["ball"].not_predicted, calibrations["ball"].missed) == (0, 0)
    assert "unknown" not in {row.case for row in rows}

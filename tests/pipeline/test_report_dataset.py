"""A report of a real workspace: of a plan alone, of some folds, and of a selection."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nnlite
from nnlite import pipeline
from nnlite.data.image import read_label, write_mask
from nnlite.errors import PlanError, UsageError
from nnlite.workspace import Workspace


def copied(work: Path, tmp_path: Path) -> Workspace:
    return Workspace(root=Path(shutil.copytree(work, tmp_path / "work")), dataset="balls")


def page(balls: Path, workspace: Workspace) -> tuple[str, tuple[str, ...]]:
    result = nnlite.report(balls, work=workspace.root)
    assert result.path == workspace.report
    return result.path.read_text(encoding="utf-8"), result.missing


def test_without_a_plan_there_is_nothing_to_report(balls: Path, tmp_path: Path):
    with pytest.raises(PlanError, match="run nnlite plan first"):
        pipeline.report(balls, work=tmp_path)
    with pytest.raises(UsageError, match=r"is a folder; name the file"):
        pipeline.report(balls, work=tmp_path, output=tmp_path)


def test_a_plan_alone_has_a_report_that_says_what_is_missing(balls: Path, trained_work: Path, tmp_path: Path):
    workspace = copied(trained_work, tmp_path)
    shutil.rmtree(workspace.runs)
    text, missing = page(balls, workspace)
    assert missing[:2] == ("2d: not trained", "3d: not trained")
    assert "no model is selected" in missing[2]
    assert all(what in text for what in missing)


def test_some_folds_have_a_report_of_the_cases_that_they_held_out(balls: Path, trained_work: Path, tmp_path: Path):
    workspace = copied(trained_work, tmp_path)
    output = tmp_path / "elsewhere" / "page.html"
    result = pipeline.report(balls, work=workspace.root, output=output)
    text = output.read_text(encoding="utf-8")
    assert result.path == output
    assert "3d: fold2 missing, fold3 missing, fold4 missing" in result.missing
    held_out = [path.name.split(".")[0] for path in workspace.runs.glob("3d/fold*/validation/*")]
    assert len(held_out) == 2
    assert all(f'aria-label="{case}: truth"' in text for case in held_out)
    assert f"nnlite train {balls} 3d fold0 fold1 --epochs 2 --iterations 10 --work {workspace.root}" in text


def test_a_selection_is_reported_with_its_ensemble_and_outdated_when_a_fold_is_trained_anew(
    balls: Path, cross_validated_work: Path, tmp_path: Path
):
    workspace = copied(cross_validated_work, tmp_path)
    selection = pipeline.select(balls, work=workspace.root, device="cpu").selection
    text, missing = page(balls, workspace)
    assert [what.split(":")[0] for what in missing] == ["reliability"]  # five cases are too few for a fit
    assert f"{selection.mean_dice:.4f}" in text
    assert "selected model" in text
    assert f"nnlite select {balls} --work {workspace.root}" in text
    run = workspace.run(selection.members[0], "fold0")
    run.checkpoint_final.write_bytes(run.checkpoint_best.read_bytes() + b" ")
    text, missing = page(balls, workspace)
    assert "outdated" in missing[0]
    assert "trained anew" in text
    assert "selected model" not in text


def test_a_case_that_cannot_be_shown_is_named_and_the_others_are_there(
    balls: Path, cross_validated_work: Path, tmp_path: Path
):
    workspace = copied(cross_validated_work, tmp_path)
    for name in ("2d", "3d"):
        mask = next(workspace.run(name, "fold0").validation.iterdir())
        mask.write_bytes(b"broken")
        other = next(workspace.run(name, "fold1").validation.iterdir())
        label = read_label(other)
        write_mask(other, label.array[0] * 0 + 99, label)  # a value that the plan does not know
    text, missing = page(balls, workspace)
    broken = [what for what in missing if "cannot be shown" in what]
    assert len(broken) == 2
    assert any(what.startswith(mask.name.split(".")[0]) for what in broken)
    assert any("99" in what for what in broken)
    assert text.count("data-card=") == 3


def test_runs_of_other_labels_than_the_plan_s_are_left_out_and_named(balls: Path, trained_work: Path, tmp_path: Path):
    workspace = copied(trained_work, tmp_path)
    config = workspace.run("3d", "fold1").config
    config.write_text(config.read_text().replace('"core"', '"kernel"'))
    text, missing = page(balls, workspace)
    assert "3d: 1 fold was trained with other labels than the plan has now" in missing
    assert text.count("data-card=") == 1

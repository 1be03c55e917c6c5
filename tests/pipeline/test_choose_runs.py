"""What was selected answers, exactly as cross-validation had it, until its trainings are others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import read_label
from nnlite.data.records import read_record, write_record
from nnlite.errors import CheckpointError, UsageError
from nnlite.inference.postprocess import Postprocessing, Rule, apply
from nnlite.pipeline.choose_runs import choose_runs
from nnlite.pipeline.selection import Selection
from nnlite.planning.planner import Plan
from nnlite.workspace import Workspace

# keeps one component of the core, and of the ball what is no less than 2 ml
RULES = Postprocessing(
    rules=(
        Rule(operation="minimum_size", label="ball", minimum_size=2.0),
        Rule(operation="keep_largest", label="core"),
    )
)


@pytest.fixture
def selected(balls: Path, cross_validated_work: Path, tmp_path: Path) -> Workspace:
    """A workspace with a selection."""
    workspace = Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")
    pipeline.select(balls, work=workspace.root, device="cpu")
    return workspace


def decide(workspace: Workspace, *members: str, rules: Postprocessing = RULES) -> None:
    """As if the numbers had spoken for these members and rules."""
    selection = read_record(workspace.selection, Selection)
    write_record(workspace.selection, replace(selection, members=members, postprocessing=rules))


@pytest.mark.parametrize("members", [("2d",), ("3d",), ("2d", "3d")])
def test_predict_after_select_gives_the_masks_of_cross_validation(
    balls: Path, selected: Workspace, tmp_path: Path, members: tuple[str, ...]
):
    decide(selected, *members)
    labels = read_record(selected.plan, Plan).labels
    changed = False
    for fold in ("fold0", "fold1"):
        held_out = [path.name for path in selected.run("3d", fold).validation.iterdir()]
        images = [balls / "images" / name for name in held_out]
        result = pipeline.predict(balls, images, tmp_path / "o", work=selected.root, folds=(fold,), device="cpu")
        assert (result.configuration, result.folds) == (" + ".join(members), (fold,))
        assert (result.selection, result.postprocessing) == (selected.selection, RULES)
        for name in held_out:
            alone = selected.run(members[0], fold).validation
            scored = read_label((alone if len(members) == 1 else selected.ensemble(members).validation) / name)
            indices = labels.to_indices(scored.array[0])
            expected = apply(indices, RULES, labels, voxel_ml=scored.geometry.voxel_volume_ml)
            np.testing.assert_array_equal(labels.to_indices(read_label(tmp_path / "o" / name).array[0]), expected)
            changed |= not np.array_equal(indices, expected)
    assert changed or members != ("2d",)  # slices of 2d leave specks; else the rules would not be tested


def test_postprocessing_can_be_left_out(balls: Path, selected: Workspace, tmp_path: Path):
    decide(selected, "2d")
    [name] = [path.name for path in selected.run("2d", "fold0").validation.iterdir()][:1]
    options = {"work": selected.root, "folds": ("fold0",), "device": "cpu", "postprocessing": False}
    result = pipeline.predict(balls, [balls / "images" / name], tmp_path / "o", **options)
    assert result.postprocessing == Postprocessing()
    scored = read_label(selected.run("2d", "fold0").validation / name)
    np.testing.assert_array_equal(read_label(tmp_path / "o" / name).array, scored.array)


def test_a_selection_answers_with_the_folds_that_were_compared(balls: Path, selected: Workspace):
    decide(selected, "2d", "3d")
    shutil.copytree(selected.run("3d", "fold0").folder, selected.run("3d", "all").folder)
    chosen = choose_runs(balls, selected.root)
    assert (chosen.configurations, chosen.folds) == (("2d", "3d"), ("fold0", "fold1"))
    assert [run.fold for runs in chosen.members for run in runs] == ["fold0", "fold1"] * 2
    with pytest.raises(UsageError, match="2d all is not trained; trained are fold0, fold1"):
        choose_runs(balls, selected.root, folds=("all",))


def test_a_named_configuration_overrides_the_selection(balls: Path, selected: Workspace):
    decide(selected, "2d", "3d")
    chosen = choose_runs(balls, selected.root, "2d")
    assert (chosen.configurations, chosen.selection, chosen.postprocessing) == (("2d",), None, Postprocessing())


def test_a_selection_of_other_trainings_is_refused_until_it_is_made_anew(balls: Path, selected: Workspace):
    decide(selected, "3d")
    shutil.copy(selected.run("3d", "fold0").checkpoint_final, selected.run("3d", "fold1").checkpoint_final)
    with pytest.raises(CheckpointError, match=r"3d fold1 was trained anew; run nnlite select again, or .* --config"):
        choose_runs(balls, selected.root)
    selected.run("3d", "fold1").checkpoint_final.unlink()
    with pytest.raises(CheckpointError, match="3d fold1 is gone"):
        choose_runs(balls, selected.root)
    assert choose_runs(balls, selected.root, "2d").configurations == ("2d",)
    decide(selected, "2d")
    assert choose_runs(balls, selected.root).configurations == ("2d",)  # its own trainings are as they were

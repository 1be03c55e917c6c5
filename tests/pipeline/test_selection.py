"""A selection holds as long as the trainings it was made from are there, and only the selected ones count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import plan

from nnlite.data.records import read_record, write_record
from nnlite.errors import CheckpointError
from nnlite.inference.postprocess import Postprocessing
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.selection import Selection, read_selection, trained_run, with_first_stage
from nnlite.training.config import TrainConfig
from nnlite.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two trainings, of which 3d is selected; their models are only looked at for their digests."""
    workspace = Workspace(root=tmp_path, dataset="balls")
    runs = [workspace.run(name, "fold0") for name in ("2d", "3d")]
    for run in runs:
        run.folder.mkdir(parents=True)
        run.checkpoint_final.write_text(f"the model of {run.configuration}")
    write_record(
        workspace.selection,
        Selection(
            dataset="balls",
            members=("3d",),
            postprocessing=Postprocessing(),
            cases=2,
            labels=("ball",),
            mean_dice=0.8,
            mean_dice_postprocessed=0.8,
            candidates=(),
            trials=(),
            left_out={},
            remarks=(),
            runs=tuple(map(trained_run, runs)),
        ),
    )
    return workspace


@pytest.fixture
def cascade(workspace: Workspace) -> Workspace:
    """The same with a cascade, which is selected: two folds of it and of its first stage, and one of all cases."""
    for name in ("3d-lowres", "3d-cascade"):
        for fold in ("fold0", "fold1") if name == "3d-cascade" else ("fold0", "fold1", "all"):
            run = workspace.run(name, fold)
            job = {"plan": plan("3d-cascade"), "configuration": name, "fold": fold, "train": TrainConfig()}
            write_record(run.config, RunConfig(**job, device="cpu", versions={}))
            run.checkpoint_final.write_text(f"the model of {name} {fold}")
    selection = read_record(workspace.selection, Selection)
    runs = with_first_stage(workspace, [workspace.run("3d-cascade", fold) for fold in ("fold0", "fold1")])
    stamps = (*selection.runs, *map(trained_run, runs))
    write_record(workspace.selection, replace(selection, members=("3d-cascade",), runs=stamps))
    return workspace


def test_a_workspace_without_a_selection_has_none(tmp_path: Path):
    assert read_selection(Workspace(root=tmp_path, dataset="balls")) is None


def test_what_was_selected_is_read_and_named(workspace: Workspace):
    selection = read_selection(workspace)
    assert selection is not None
    assert selection.name == "3d"


def test_a_training_that_was_not_selected_may_change(workspace: Workspace):
    workspace.run("2d", "fold0").checkpoint_final.unlink()
    assert read_selection(workspace) is not None


def test_a_selected_training_that_is_gone_or_another_one_is_told(workspace: Workspace):
    model = workspace.run("3d", "fold0").checkpoint_final
    model.write_text("another model")
    with pytest.raises(CheckpointError, match=r"3d fold0 was trained anew; run nnlite select again"):
        read_selection(workspace)
    model.unlink()
    with pytest.raises(CheckpointError, match="3d fold0 is gone"):
        read_selection(workspace)


def test_a_cascade_rests_on_the_same_folds_of_its_first_stage(cascade: Workspace):
    folds = [cascade.run("3d-cascade", fold) for fold in ("fold0", "fold1")]
    first = [cascade.run("3d-lowres", fold) for fold in ("fold0", "fold1")]
    assert with_first_stage(cascade, folds) == (*folds, *first)
    assert with_first_stage(cascade, first) == tuple(first)
    first[0].checkpoint_final.unlink()
    assert with_first_stage(cascade, folds) == (*folds, first[1])


@pytest.mark.parametrize(("fold", "told"), [("fold1", "was trained anew"), ("fold0", "is gone")])
def test_a_first_stage_that_is_gone_or_another_one_is_told(cascade: Workspace, fold: str, told: str):
    cascade.run("3d", "fold0").checkpoint_final.unlink()  # was not selected
    assert read_selection(cascade) is not None
    model = cascade.run("3d-lowres", fold).checkpoint_final
    model.write_text("another model") if told == "was trained anew" else model.unlink()
    with pytest.raises(
        CheckpointError, match=f"selected 3d-cascade from other .*: 3d-lowres {fold} {told}; run nnlite"
    ):
        read_selection(cascade)

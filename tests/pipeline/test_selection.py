"""A selection holds as long as the trainings it was made from are there, and only the selected ones count."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlite.data.records import write_record
from nnlite.errors import CheckpointError
from nnlite.inference.postprocess import Postprocessing
from nnlite.pipeline.selection import Selection, read_selection, trained_run
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

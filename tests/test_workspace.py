"""Every path in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlite.errors import WorkspaceError
from nnlite.workspace import Workspace, locate_run

WORKSPACE = Workspace(root=Path("work"), dataset="liver")


def test_everything_of_a_dataset_lies_below_its_folder():
    run = WORKSPACE.run("3d", "fold0")
    of_dataset = [WORKSPACE.description, WORKSPACE.fingerprint, WORKSPACE.plan, WORKSPACE.splits, WORKSPACE.cases("3d")]
    of_dataset.append(WORKSPACE.selection)
    checkpoints = [run.checkpoint_best, run.checkpoint_last, run.checkpoint_final]
    of_run = [run.config, run.log, run.plot, *checkpoints, run.validation, run.scores, run.summary]
    together = WORKSPACE.ensemble(("2d", "3d"))
    of_ensemble = [together.members, together.validation, together.scores, together.summary]
    assert all(path.parent == Path("work/liver/ensembles/2d+3d") for path in of_ensemble)
    assert all(WORKSPACE.folder in path.parents for path in of_dataset)
    assert all(path.parent == Path("work/liver/runs/3d/fold0") for path in of_run)
    assert len({*of_dataset, *of_run}) == len(of_dataset) + len(of_run)


def test_two_configurations_share_no_folder():
    assert WORKSPACE.cases("2d") != WORKSPACE.cases("3d")
    assert WORKSPACE.run("2d", "fold0").folder != WORKSPACE.run("3d", "fold0").folder


def test_asking_for_paths_makes_none(tmp_path: Path):
    workspace = Workspace(root=tmp_path, dataset="liver")
    assert workspace.existing_runs() == ()
    assert workspace.run("3d", "fold0").log.name == "log.jsonl"
    assert list(tmp_path.iterdir()) == []


def test_existing_runs_are_those_that_were_started_in_order(tmp_path: Path):
    workspace = Workspace(root=tmp_path, dataset="liver")
    for configuration, fold in (("3d", "fold1"), ("2d", "all"), ("3d", "fold0")):
        config = workspace.run(configuration, fold).config
        config.parent.mkdir(parents=True)
        config.write_text("{}")
    workspace.run("3d", "fold4").folder.mkdir()  # made, but no training was begun in it
    found = [(run.configuration, run.fold) for run in workspace.existing_runs()]
    assert found == [("2d", "all"), ("3d", "fold0"), ("3d", "fold1")]


def test_variants_with_a_plan_of_their_own_are_found_by_their_names(tmp_path: Path):
    workspace = Workspace(root=tmp_path, dataset="liver")
    assert workspace.planned_variants() == ()
    for variant in (None, "v1.5-b", "big"):
        workspace.plan_of(variant).parent.mkdir(exist_ok=True)
        workspace.plan_of(variant).touch()
    assert workspace.planned_variants() == ("big", "v1.5-b")


def test_a_run_leads_back_to_its_workspace(tmp_path: Path):
    there = Workspace(root=tmp_path, dataset="liver")
    workspace, run = locate_run(there.run("3d-lowres", "fold2").folder)
    assert (workspace, run) == (there, there.run("3d-lowres", "fold2"))


def test_a_run_named_from_within_its_parent_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = Workspace(root=tmp_path, dataset="liver").run("3d", "fold0").folder
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    workspace, run = locate_run(Path())
    assert (workspace.dataset, run.configuration, run.fold) == ("liver", "3d", "fold0")


def test_a_folder_that_is_no_run_is_refused_with_an_example(tmp_path: Path):
    with pytest.raises(WorkspaceError, match="nnlite_work/hippocampus/runs/3d/fold0"):
        locate_run(tmp_path / "somewhere")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc"])
def test_a_dataset_cannot_lead_out_of_the_workspace(name: str):
    with pytest.raises(WorkspaceError, match=r'"name" in its nnlite\.json'):
        Workspace(root=Path("work"), dataset=name)

"""The demo's recipe: a folder of its own, and commands in the order of the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlite.cli import app
from nnlite.cli.arguments import parse_duration
from nnlite.demo import TRAINING_TIME, Demo
from nnlite.errors import WorkspaceError


def test_everything_lies_below_the_demo_s_folder():
    demo = Demo(folder=Path("d"), seed=0)
    places = [demo.dataset, demo.test, demo.predictions, demo.scores, demo.work, demo.run.folder]
    assert all(Path("d") in place.parents for place in places)
    assert len(set(places)) == len(places)


def test_each_command_is_one_the_command_line_has():
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {arguments[0] for arguments in Demo(folder=Path("d"), seed=0).commands()} <= names


def test_half_of_the_five_minutes_is_left_for_everything_but_training():
    assert parse_duration(TRAINING_TIME) <= 0.5 * 5 * 60


def test_a_training_that_was_begun_is_resumed(tmp_path: Path):
    demo = Demo(folder=tmp_path, seed=3)
    assert "--resume" not in demo.commands()[1]
    demo.run.folder.mkdir(parents=True)
    demo.run.config.write_text("{}")
    assert "--resume" in demo.commands()[1]


def test_a_demo_claims_a_new_an_empty_and_its_own_folder(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "new"):
        Demo(folder=folder, seed=1).claim()
        Demo(folder=folder, seed=1).claim()
        assert [path.name for path in folder.glob("*.json")] == ["demo.json"]


def test_a_demo_leaves_other_people_s_folders_and_files_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    for folder in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(WorkspaceError, match="no demo's folder; choose another one with --out"):
            Demo(folder=folder, seed=0).claim()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_two_seeds_are_not_mixed(tmp_path: Path):
    Demo(folder=tmp_path, seed=1).claim()
    with pytest.raises(WorkspaceError, match="holds the demo of seed 1, not 2"):
        Demo(folder=tmp_path, seed=2).claim()

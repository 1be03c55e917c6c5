"""Held-out cases are predicted together by the networks that never saw them, and again when these change."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nnlite import pipeline
from nnlite.data.dataset import find_dataset
from nnlite.data.image import read_image, read_label
from nnlite.data.records import read_record
from nnlite.evaluation.folders import evaluate_folders
from nnlite.evaluation.scores import Scores
from nnlite.pipeline.cross_validated import cross_validated, held_out_by_fold
from nnlite.pipeline.ensemble_held_out import score_ensembles
from nnlite.pipeline.reliability import read_measured, write_measured
from nnlite.planning.planner import Plan
from nnlite.workspace import Workspace

PAIR = ("2d", "3d")


@pytest.fixture
def workspace(cross_validated_work: Path, tmp_path: Path) -> Workspace:
    return Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")


def score(balls: Path, workspace: Workspace, *, until: int | None = None) -> tuple[Scores, list[int]]:
    """The scores of the pair, and the number of cases done each time something was reported.

    After ``until`` cases it is interrupted as by Ctrl-C.
    """
    folds = held_out_by_fold(workspace)
    finished, _ = cross_validated(workspace, read_record(workspace.plan, Plan), folds)
    by_name = {one.name: one for one in finished}
    done: list[int] = []

    def progress(what: str, number: int, total: int) -> None:
        done.append(number)
        if number == until:
            raise KeyboardInterrupt

    found = score_ensembles(
        find_dataset(balls),
        workspace,
        by_name,
        [PAIR],
        folds,
        device=torch.device("cpu"),
        progress=progress,
    )
    return found[PAIR], done


def test_the_mean_of_both_networks_probabilities_decides(balls: Path, workspace: Workspace, tmp_path: Path):
    scores, done = score(balls, workspace)
    assert done == [1, 2, 3, 4, 5]
    folder = workspace.ensemble(PAIR)
    assert scores.mean_dice == pytest.approx(evaluate_folders(balls / "labels", folder.validation).mean_dice, abs=1e-5)
    for fold in ("fold0", "fold1"):
        name = min(path.name for path in workspace.run("3d", fold).validation.iterdir())
        probabilities = []
        for configuration in PAIR:
            run, out = workspace.run(configuration, fold).folder, tmp_path / configuration
            pipeline.predict(run, [balls / "images" / name], out, device="cpu", probabilities=True)
            probabilities.append(read_image(out / name.replace(".nii.gz", ".probabilities.nii")).array)
        mean = np.mean(probabilities, axis=0)
        first, second = np.sort(mean, axis=0)[[-1, -2]]
        clear = first - second > 1e-5
        values = np.array([0, 1, 7])[mean.argmax(axis=0)]
        np.testing.assert_array_equal(read_label(folder.validation / name).array[0][clear], values[clear])


def test_an_ensemble_of_other_trainings_is_predicted_anew(balls: Path, workspace: Workspace):
    score(balls, workspace)
    assert score(balls, workspace)[1] == []  # nothing left to do
    stale = workspace.ensemble(PAIR).validation / "of_before.nii.gz"
    stale.touch()
    shutil.copy(workspace.run("3d", "fold0").checkpoint_final, workspace.run("3d", "fold1").checkpoint_final)
    assert score(balls, workspace)[1] == [1, 2, 3, 4, 5]
    assert not stale.exists()


def test_what_was_predicted_before_an_interruption_is_not_predicted_again(balls: Path, workspace: Workspace):
    with pytest.raises(KeyboardInterrupt):
        score(balls, workspace, until=1)  # the first fold holds out more than one case
    folder = workspace.ensemble(PAIR)
    [(case_id, features)] = read_measured(folder).items()
    assert [path.name for path in folder.validation.iterdir()] == [f"{case_id}.nii.gz"]
    marked = tuple(replace(one, flip_agreement=0.123) for one in features)  # no prediction would measure this
    write_measured(folder, {case_id: marked})
    score(balls, workspace)
    assert read_measured(folder)[case_id] == marked
    assert len(read_measured(folder)) == 5

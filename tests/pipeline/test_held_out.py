"""Held-out cases are predicted on their labels' grid, in their labels' values, and scored against them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nnlite.data.dataset import find_dataset
from nnlite.data.image import read_label
from nnlite.data.records import read_record
from nnlite.evaluation.folders import evaluate_folders
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.held_out import score_held_out
from nnlite.preprocessing.store import CaseStore
from nnlite.workspace import Workspace


def test_masks_and_scores_of_held_out_cases(balls: Path, trained_work: Path, tmp_path: Path):
    work = Path(shutil.copytree(trained_work, tmp_path / "work"))
    workspace = Workspace(root=work, dataset="balls")
    run, store = workspace.run("3d", "fold0"), CaseStore(workspace.cases("3d"))
    shutil.rmtree(run.validation)
    cases = find_dataset(balls).cases[2:4]
    reported = []
    scores = score_held_out(
        run,
        cases,
        {case.id: store.open(case.id) for case in cases},
        device=torch.device("cpu"),
        progress=lambda what, done, total: reported.append((done, total)),
    )
    assert reported == [(1, 2), (2, 2)]
    assert [path.name for path in sorted(run.validation.iterdir())] == ["ball_2.nii.gz", "ball_3.nii.gz"]
    mask = read_label(run.validation / "ball_2.nii.gz")
    assert mask.geometry.differences(read_label(balls / "labels" / "ball_2.nii.gz").geometry) == []
    assert set(np.unique(mask.array)) == {0, 1, 7}
    # the same masks scored from their files
    again = evaluate_folders(balls / "labels", run.validation, allow_missing=True)
    assert scores.rows == again.rows
    assert read_record(run.summary, Summary) == scores.summary()
    assert scores.mean_dice == pytest.approx(again.mean_dice)
    assert len(run.scores.read_text().splitlines()) == 1 + 2 * 2  # a header, two labels in two cases

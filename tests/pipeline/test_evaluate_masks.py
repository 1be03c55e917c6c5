"""Scores are returned, and kept where the user wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlite import pipeline
from nnlite.data.labels import Labels
from nnlite.data.records import read_record
from nnlite.errors import UsageError
from nnlite.evaluation.scores import Summary


def test_labels_scored_against_themselves_are_perfect_and_named_by_the_dataset(balls: Path, tmp_path: Path):
    scores = pipeline.evaluate(balls / "labels", balls / "labels", output=tmp_path / "scores")
    assert scores.mean_dice == 1
    assert scores.labels == ("ball", "core")
    assert read_record(tmp_path / "scores" / "scores.json", Summary) == scores.summary()
    assert (tmp_path / "scores" / "scores.csv").read_text().startswith("case,label,dice")


def test_names_can_be_given_and_nothing_is_written_unasked(balls: Path, tmp_path: Path):
    labels = Labels(names=("background", "rind", "stone"), values=(0, 1, 7))
    mask = balls / "labels" / "ball_0.nii.gz"
    assert pipeline.evaluate(mask, mask, labels=labels).labels == ("rind", "stone")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_for_scores(balls: Path):
    mask = balls / "labels" / "ball_0.nii.gz"
    with pytest.raises(UsageError, match="is a file; give the folder for the scores"):
        pipeline.evaluate(mask, mask, output=mask)


def test_a_tolerance_that_is_no_length_is_refused(balls: Path):
    mask = balls / "labels" / "ball_0.nii.gz"
    assert pipeline.evaluate(mask, mask, tolerance_mm=0.5).tolerance_mm == 0.5
    for tolerance_mm in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="makes no sense; give a positive number of millimetres"):
            pipeline.evaluate(mask, mask, tolerance_mm=tolerance_mm)


def test_metrics_that_do_not_exist_are_refused_with_those_that_do(balls: Path):
    mask = balls / "labels" / "ball_0.nii.gz"
    assert pipeline.evaluate(mask, mask, metrics=["lesions"]).metrics == ("lesions",)
    with pytest.raises(UsageError, match="no metrics hd95; there are overlap, distances, lesions"):
        pipeline.evaluate(mask, mask, metrics=["overlap", "hd95"])

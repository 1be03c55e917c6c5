"""Scores summed up over cases and labels, as a table, and on disk."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from nnlite.errors import WorkspaceError
from nnlite.evaluation.scores import MEASURES, LabelScore, Scores, read_scores


def row(case: str, label: str, dice: float) -> LabelScore:
    voxels = 0 if math.isnan(dice) else 1
    numbers = dict.fromkeys(MEASURES, dice) | {"truth_ml": 0.5, "prediction_ml": 0.5}
    return LabelScore(case=case, label=label, truth_voxels=voxels, prediction_voxels=voxels, **numbers)


def test_mean_dice_is_the_mean_over_labels_of_the_mean_over_cases_that_have_the_label() -> None:
    nan = math.nan
    scores = Scores(rows=(row("a", "x", 0.5), row("a", "y", nan), row("b", "x", 1.0), row("b", "y", 0.25)))
    # x: (0.5 + 1) / 2 = 0.75; y: 0.25 from the one case that has it; (0.75 + 0.25) / 2 = 0.5, not 1.75 / 3
    assert scores.mean_dice == pytest.approx(0.5)


def test_summary_gives_mean_and_median_of_each_label() -> None:
    dice = {"a": 0.0, "b": 0.6, "c": 0.9, "d": math.nan}
    scores = Scores(rows=tuple(row(case, "x", value) for case, value in dice.items()))
    summary = scores.summary()
    assert summary.cases == 4
    assert summary.labels["x"].cases == 3
    assert (summary.labels["x"].dice.mean, summary.labels["x"].dice.median) == pytest.approx((0.5, 0.6))
    assert summary.foreground["iou"] == pytest.approx(0.5)
    assert summary.labels["x"].hd95_mm.cases == 3


def test_a_label_that_no_case_has_drops_out() -> None:
    scores = Scores(rows=(row("a", "x", 0.5), row("a", "y", math.nan)))
    assert scores.mean_dice == 0.5
    assert scores.summary().labels["y"].dice.mean is None
    assert math.isnan(Scores(rows=(row("a", "y", math.nan),)).mean_dice)


def test_the_table_has_one_row_per_case_and_label() -> None:
    frame = Scores(rows=(row("a", "x", 0.5), row("a", "y", math.nan))).to_frame()
    assert frame["label"].tolist() == ["x", "y"]
    assert frame["dice"].isna().tolist() == [False, True]
    assert frame["truth_voxels"].tolist() == [1, 0]


def test_files_hold_what_was_scored(tmp_path: Path) -> None:
    scores = Scores(rows=(row("a", "x", 2 / 3), row("a", "y", math.nan)))
    scores.write(tmp_path / "new" / "scores.csv", tmp_path / "new" / "scores.json")
    with (tmp_path / "new" / "scores.csv").open() as file:
        x, y = csv.DictReader(file)
    assert (x["case"], x["label"], x["dice"], x["truth_voxels"]) == ("a", "x", "0.666667", "1")
    assert y["dice"] == ""
    content = json.loads((tmp_path / "new" / "scores.json").read_text(), parse_constant=pytest.fail)
    assert content["format_version"] == 1
    assert content["foreground"]["dice"] == pytest.approx(2 / 3)
    assert content["labels"]["y"]["dice"] == {"mean": None, "median": None, "cases": 0}
    assert content["tolerance_mm"] == 2
    assert content["foreground"].keys() == set(MEASURES) - {"truth_ml", "prediction_ml", "volume_error_ml"}


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    csv_path, json_path = tmp_path / "scores.csv", tmp_path / "scores.json"
    scores = Scores(rows=(row("NA", "x", 0.5), row("1e3", "y", math.nan)), tolerance_mm=3.0, metrics=("overlap",))
    scores.write(csv_path, json_path)  # the names of these cases look like numbers
    again = read_scores(csv_path, json_path)
    assert (again.cases, again.labels, again.tolerance_mm) == (("NA", "1e3"), ("x", "y"), 3.0)
    assert again.metrics == ("overlap",)
    assert again.to_frame().equals(scores.to_frame())
    csv_path.write_text(csv_path.read_text().replace("dice", "rice", 1))
    with pytest.raises(WorkspaceError, match=r"scores\.csv is missing, damaged or of another version: 'dice'"):
        read_scores(csv_path, json_path)


def count(label: str, truth: int, prediction: int) -> LabelScore:
    return replace(row("a", label, 0.5), truth_voxels=truth, prediction_voxels=prediction)


def test_labels_without_a_meaningful_mean_are_pointed_out() -> None:
    rows = (count("fine", 3, 2), count("absent", 0, 0), count("missed", 4, 0), count("made up", 0, 5))
    absent, missed, made_up = Scores(rows=rows).remarks()
    assert absent.startswith("absent: in no truth and in no prediction")
    assert missed.startswith("missed: in the truth of 1 case but in no prediction")
    assert made_up.startswith("made up: in no truth but in the prediction of 1 case")


def test_labels_are_in_the_order_of_the_table_whichever_case_has_annotated_them() -> None:
    rows = tuple(row(case, label, 0.5) for case, label in ("ac", "ba", "bc"))
    assert Scores(rows=rows, structures=("a", "b", "c")).labels == ("a", "c")
    assert Scores(rows=rows).labels == ("c", "a")

"""Rows of images are summed up over images and over instances, and kept on disk."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from nnlite.data.records import read_record
from nnlite.errors import WorkspaceError
from nnlite.evaluation.instance_scores import (
    InstanceScore,
    InstanceScores,
    InstanceSummary,
    instance_summary,
    read_instance_scores,
    score_instances,
)

ONE = np.array([[1, 1, 0, 0, 0, 0]])
THREE = np.array([[1, 0, 2, 0, 3, 0]])
NONE = np.zeros((1, 6), dtype=int)


@pytest.fixture
def scores() -> InstanceScores:
    found = np.array([[1, 0, 0, 0, 4, 4]])  # the first of three exactly, half of the last
    return InstanceScores(
        rows=(
            score_instances("a", ONE, ONE),
            score_instances("b", THREE, found),
            score_instances("empty", NONE, NONE),
        )
    )


def test_all_instances_together_weigh_alike_and_so_do_all_images_in_the_mean(scores: InstanceScores):
    summary = scores.summary()
    assert (summary.cases, summary.true_instances, summary.predicted_instances) == (3, 4, 3)
    assert summary.average_precision[0] == pytest.approx(2 / (2 + 1 + 2))
    # image a: 1; b: 1 match, 1 false alarm, 2 missed: 1 / 4; the empty one counts nowhere
    assert summary.average_precision_by_image[0] == pytest.approx((1 + 1 / 4) / 2)
    # b: intersection 1 + 1, unions 1 + 2, and 1 for the missed one
    assert summary.aggregated_jaccard == pytest.approx((1 + 2 / 4) / 2)
    assert summary.f1 == pytest.approx(4 / 7)
    assert summary.in_words().startswith("AP 0.5 0.400, AP 0.5 to 0.95 0.400, F1 0.571, AJI 0.750 over 4 instances")


def test_without_any_instance_there_are_no_numbers_but_counts():
    summary = InstanceScores(rows=(score_instances("empty", NONE, NONE),)).summary()
    assert summary.average_precision[0] is summary.f1 is summary.aggregated_jaccard is None
    assert summary.in_words() == "AP 0.5 -, AP 0.5 to 0.95 -, F1 -, AJI - over 0 instances"


def test_rows_and_summary_are_written_and_what_is_undefined_stays_empty(scores: InstanceScores, tmp_path: Path):
    scores.write(tmp_path / "instances.csv", tmp_path / "instances.json")
    with (tmp_path / "instances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b", "empty"]
    assert [row["average_precision_0.50"] for row in rows] == ["1", "0.25", ""]
    assert read_record(tmp_path / "instances.json", InstanceSummary) == scores.summary()
    assert math.isnan(scores.rows[2].f1)


def test_files_of_several_folds_are_summed_up_over_the_cases_asked_for(scores: InstanceScores, tmp_path: Path):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    InstanceScores(rows=scores.rows[:1]).write(first, tmp_path / "first.json")
    assert instance_summary([first, second], {"a", "b"}) is None
    InstanceScores(rows=scores.rows[1:]).write(second, tmp_path / "second.json")
    assert instance_summary([first, second], {"a", "b", "empty"}) == scores.summary()
    assert instance_summary([first, second], {"b"}) == InstanceScores(rows=scores.rows[1:2]).summary()


def test_what_was_written_is_read_again_with_the_counts_behind_it(scores: InstanceScores, tmp_path: Path):
    csv_path = tmp_path / "instances.csv"
    many = InstanceScore(  # of 900 and 1100, at each threshold fewer
        case="many",
        true_instances=900,
        predicted_instances=1100,
        aggregated_jaccard=0.5,
        found=tuple(range(813, 0, -90)),
    )
    InstanceScores(rows=(*scores.rows, many)).write(csv_path, tmp_path / "instances.json")
    again = read_instance_scores(csv_path)
    assert [row.found for row in again.rows] == [*(row.found for row in scores.rows), many.found]
    assert again.rows[3] == many
    assert again.summary() == read_record(tmp_path / "instances.json", InstanceSummary)
    csv_path.write_text("case,true_instances\na,three\n")
    with pytest.raises(WorkspaceError, match=r"instances\.csv is missing, damaged or of another version"):
        read_instance_scores(csv_path)

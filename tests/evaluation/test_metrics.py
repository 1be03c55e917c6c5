"""Overlap numbers counted by hand, and what empty masks mean."""

from __future__ import annotations

import numpy as np
import pytest

import nnlite.evaluation.metrics as metrics
from nnlite.evaluation.metrics import dice, iou, joint_histogram, overlap, precision, sensitivity, volume_ml


def test_histogram_counts_every_pair_of_labels() -> None:
    truth = np.array([[[0, 1, 2], [2, 2, 0]]])
    prediction = np.array([[[0, 2, 2], [1, 2, 1]]], dtype=np.uint8)
    # pairs (truth, prediction): 00, 12, 22, 21, 22, 01
    assert joint_histogram(truth, prediction, 3).tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 2]]


def test_histogram_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    truth, prediction = generator.integers(0, 4, size=(2, 7, 11, 5), dtype=np.uint8)
    whole = joint_histogram(truth, prediction, 4)
    assert whole.sum() == truth.size
    monkeypatch.setattr(metrics, "VOXELS_AT_ONCE", 10)
    assert np.array_equal(joint_histogram(truth, prediction, 4), whole)


def test_histogram_refuses_masks_of_different_shape() -> None:
    with pytest.raises(ValueError, match=r"truth of shape \(2, 3\) but prediction of shape \(3, 2\)"):
        joint_histogram(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


@pytest.mark.parametrize("stray", [-1, 2])
def test_histogram_refuses_labels_beyond_the_count(stray: int) -> None:
    with pytest.raises(ValueError, match="where 0 to 1 are known"):
        joint_histogram(np.array([0, 1]), np.array([0, stray]), 2)


def test_overlap_separates_hits_false_alarms_and_misses() -> None:
    histogram = np.array([[10, 2, 1], [3, 20, 4], [5, 6, 30]])
    hits, false_alarms, misses = overlap(histogram)
    assert hits.tolist() == [10, 20, 30]
    assert false_alarms.tolist() == [3 + 5, 2 + 6, 1 + 4]  # down the columns
    assert misses.tolist() == [2 + 1, 3 + 4, 5 + 6]  # along the rows


def test_scores_of_a_mask_that_is_half_right() -> None:
    # 6 voxels in common, 2 only predicted, 4 only in the truth
    assert dice(6, 2, 4) == pytest.approx(12 / 18)
    assert iou(6, 2, 4) == pytest.approx(6 / 12)
    assert sensitivity(6, 4) == pytest.approx(6 / 10)
    assert precision(6, 2) == pytest.approx(6 / 8)


def test_dice_and_iou_tell_the_same_story() -> None:
    counts = np.random.default_rng(1).integers(1, 50, size=(3, 20))
    overlap_over_union = iou(*counts)
    assert dice(*counts) == pytest.approx(2 * overlap_over_union / (1 + overlap_over_union))


def test_two_empty_masks_have_no_score() -> None:
    assert np.isnan([dice(0, 0, 0), iou(0, 0, 0), sensitivity(0, 0), precision(0, 0)]).all()


def test_one_empty_mask_scores_zero_where_a_ratio_exists() -> None:
    assert dice(0, 5, 0) == iou(0, 5, 0) == precision(0, 5) == 0
    assert np.isnan(sensitivity(0, 0))
    assert dice(0, 0, 5) == iou(0, 0, 5) == sensitivity(0, 5) == 0
    assert np.isnan(precision(0, 0))


def test_labels_are_scored_side_by_side() -> None:
    assert dice([1, 0, 2], [1, 0, 0], [0, 0, 0]).tolist() == pytest.approx([2 / 3, np.nan, 1], nan_ok=True)


def test_volume_counts_cubic_millimetres_by_the_thousand() -> None:
    assert volume_ml(200, (5.0, 0.5, 0.5)) == pytest.approx(0.25)

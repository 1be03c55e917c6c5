"""Instances are matched by intersection over union; every number here follows from counting squares."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnlite.evaluation.instances import InstanceOverlaps, average_precision, close_instances

NOTHING = np.zeros((4, 4), dtype=np.int32)


def line(*runs: tuple[int, int]) -> np.ndarray:
    """A row of pixels from (number, length) runs."""
    return np.repeat([number for number, _ in runs], [length for _, length in runs])[None]


# of 4 pixels 3 are covered, of 4 all and 2 more, of 2 none; and 1 pixel is made up
TRUTH = line((1, 4), (0, 2), (2, 4), (0, 2), (3, 2), (0, 2))
FOUND = line((5, 3), (0, 3), (7, 6), (0, 2), (0, 1), (9, 1))


def test_pairs_that_meet_are_counted_once_whatever_their_numbers():
    pairs = InstanceOverlaps.of(TRUTH, FOUND)
    assert pairs.truth_voxels.tolist() == [4, 4, 2]
    assert pairs.prediction_voxels.tolist() == [3, 6, 1]
    assert list(zip(pairs.truth.tolist(), pairs.prediction.tolist(), pairs.shared.tolist(), strict=True)) == [
        (0, 0, 3),
        (1, 1, 4),
    ]
    assert pairs.iou.tolist() == [3 / 4, 4 / 6]


def test_average_precision_is_true_positives_over_all_that_was_found_missed_or_invented():
    pairs = InstanceOverlaps.of(TRUTH, FOUND)
    # at 0.5 two of three are matched, one is missed and one false: 2 / 4; above 2 / 3 one match: 1 / 5; at 3 / 4 none
    assert average_precision(pairs, [0.5, 0.7, 0.75]) == (0.5, 0.2, 0.0)
    assert pairs.matches(0.5).f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))


def test_a_match_has_to_be_above_the_threshold_so_that_no_instance_has_two():
    whole, halves = line((1, 4)), line((1, 2), (2, 2))
    assert InstanceOverlaps.of(whole, halves).matches(0.5).found == 0  # both are at 0.5
    with pytest.raises(ValueError, match="below it matches are not unique"):
        InstanceOverlaps.of(whole, halves).matches(0.4)


def test_aggregated_jaccard_adds_up_the_best_partners_and_everything_nobody_needs():
    # intersections 3 + 4; unions 4 + 6, then 2 pixels of the missed one and 1 of the invented one
    assert InstanceOverlaps.of(TRUTH, FOUND).aggregated_jaccard() == pytest.approx(7 / 13)


def test_a_merged_pair_shares_one_partner_in_the_aggregated_jaccard():
    truth, merged = line((1, 3), (2, 3)), line((1, 6))
    # each true one is 3 of 6: 3 + 3 over 6 + 6, the prediction is used by both
    assert InstanceOverlaps.of(truth, merged).aggregated_jaccard() == pytest.approx(6 / 12)


def test_the_partner_in_the_aggregated_jaccard_is_the_one_of_the_highest_iou_not_of_the_largest_intersection():
    # of 5 true pixels the large one holds 3 of its 100 (IoU 3 / 102), the small one both of its own (IoU 2 / 5)
    truth, found = line((1, 5), (0, 97)), line((8, 2), (9, 100))
    # 2 over 5, then the 100 of the large one, which nobody needs; by intersections it were 3 over 102 + 2
    assert InstanceOverlaps.of(truth, found).aggregated_jaccard() == pytest.approx(2 / 105)


def test_images_without_instances_have_no_number_and_those_that_lack_one_side_have_zero():
    one = np.eye(4, dtype=np.int32)
    for of_both in (InstanceOverlaps.of(NOTHING, NOTHING),):
        assert math.isnan(of_both.matches(0.5).precision)
        assert math.isnan(of_both.aggregated_jaccard())
    for pairs in (InstanceOverlaps.of(one, NOTHING), InstanceOverlaps.of(NOTHING, one)):
        assert (pairs.matches(0.5).precision, pairs.matches(0.5).f1, pairs.aggregated_jaccard()) == (0, 0, 0)


def test_an_image_full_of_instances_needs_no_background():
    truth = np.array([[1, 1], [2, 2]])
    assert average_precision(InstanceOverlaps.of(truth, truth), [0.95]) == (1.0,)
    assert InstanceOverlaps.of(truth, truth).aggregated_jaccard() == 1


def test_of_chosen_instances_only_what_covers_them_is_a_false_alarm():
    pairs = InstanceOverlaps.of(TRUTH, FOUND)
    counts = pairs.matches(
        0.7, np.array([False, True, True])
    )  # the second is found at 2 / 3 only, the third not at all
    assert (counts.found, counts.false_alarms, counts.missed) == (
        0,
        1,
        2,
    )  # what covers nothing is nobody's false alarm
    counts = pairs.matches(0.5, np.array([True, False, False]))
    assert (counts.found, counts.false_alarms, counts.missed) == (1, 0, 0)


def test_the_counts_agree_with_a_brute_force_comparison_of_all_pairs():
    rng = np.random.default_rng(0)
    truth, found = (rng.integers(0, 6, (12, 12)).repeat(3, 0).repeat(3, 1) for _ in range(2))
    found = np.where(rng.random(found.shape) < 0.7, truth, found)
    pairs = InstanceOverlaps.of(truth, found)
    ious = [
        ((truth == a) & (found == b)).sum() / ((truth == a) | (found == b)).sum()
        for a in range(1, 6)
        for b in range(1, 6)
    ]
    assert sorted(pairs.iou.round(12)) == sorted(value for value in np.round(ious, 12) if value)
    for threshold in (0.5, 0.6, 0.7):
        assert pairs.matches(threshold).found == sum(value > threshold for value in ious)


def test_instances_are_close_by_their_nearest_pixels():
    row = line((1, 2), (0, 1), (4, 2), (0, 4), (6, 1))  # one pixel between the first two: distance 2; then 5
    assert close_instances(row, within=1.9).tolist() == [False, False, False]
    assert close_instances(row, within=2).tolist() == [True, True, False]
    assert close_instances(row, within=5).tolist() == [True, True, True]
    diagonal = np.array([[1, 0], [0, 2]])
    assert close_instances(diagonal, within=1.4).tolist() == [False, False]
    assert close_instances(diagonal, within=1.42).tolist() == [True, True]
    assert close_instances(NOTHING, within=3).tolist() == []

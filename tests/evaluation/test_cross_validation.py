"""The highest mean decides, ties go to the simpler, and no NaN decides anything."""

from __future__ import annotations

from dataclasses import fields, replace
from math import nan

import numpy as np
import pytest

from nnlite.errors import DatasetError, WorkspaceError
from nnlite.evaluation.case_scores import LabelScore
from nnlite.evaluation.cross_validation import Candidate, Comparison, case_means, compare, mean_dice, paired_differences
from nnlite.evaluation.scores import Scores

NUMBERS = [field.name for field in fields(LabelScore) if field.name not in ("case", "label", "dice")]


def candidate(
    name: str, dice: list[list[float]], *, parameters: int = 1, truth: tuple[int, ...] = (9, 9), found: int = 9
) -> Candidate:
    """Dice by case and by the labels "a" and "b"; ``truth`` has the voxels of both in every truth."""
    rows = []
    for number, of_case in enumerate(dice):
        for label, voxels, one in zip("ab", truth, of_case, strict=True):
            others = {**dict.fromkeys(NUMBERS, nan), "truth_voxels": voxels, "prediction_voxels": found}
            rows.append(LabelScore(case=f"case_{number}", label=label, dice=one, **others))
    return Candidate(members=tuple(name.split("+")), scores=Scores(rows=tuple(rows)), parameters=parameters)


def names(comparison: Comparison) -> list[str]:
    return ["+".join(one.members) for one in comparison.candidates]


def test_the_highest_mean_over_labels_of_means_over_cases_wins():
    # label a: (0.9 + 0.5) / 2 = 0.7; label b is defined once: 0.3; their mean is 0.5
    first = candidate("2d", [[0.9, 0.3], [0.5, nan]])
    second = candidate("3d", [[0.6, 0.6], [0.6, nan]])
    comparison = compare([first, second])
    assert names(comparison) == ["3d", "2d"]
    chosen, other = comparison.candidates
    assert (chosen.mean_dice, other.mean_dice) == pytest.approx((0.6, 0.5))
    assert other.labels == pytest.approx({"a": 0.7, "b": 0.3})
    assert (chosen.difference, other.difference) == pytest.approx((0.0, -0.1))


def test_a_tie_goes_to_fewer_members_then_to_fewer_parameters():
    best = candidate("2d+3d", [[0.80005, 0.8]] * 3, parameters=1)  # 0.000025 more: nothing anybody would report
    large, small = (candidate(name, [[0.8, 0.8]] * 3, parameters=size) for name, size in (("2d", 20), ("3d", 10)))
    assert names(compare([best, large, small])) == ["3d", "2d+3d", "2d"]
    clearly_better = candidate("2d+3d", [[0.81, 0.8]] * 3)
    assert names(compare([clearly_better, large, small]))[0] == "2d+3d"


def test_a_label_absent_from_all_truths_decides_nothing():
    # label b is in no truth: one candidate predicts it nowhere (NaN), the other in vain (0)
    silent = candidate("2d", [[0.5, nan]] * 2, truth=(9, 0))
    guessing = candidate("3d", [[0.6, 0.0]] * 2, truth=(9, 0))
    comparison = compare([silent, guessing])
    assert names(comparison) == ["3d", "2d"]
    assert comparison.labels == ("a",)
    assert comparison.candidates[0].mean_dice == pytest.approx(0.6)
    assert comparison.remarks == ("b: in the truth of no held-out case; it decides nothing",)


def test_no_truth_at_all_or_no_prediction_at_all_is_an_error():
    with pytest.raises(DatasetError, match="none of the 2 held-out cases has any foreground in its truth"):
        compare([candidate("3d", [[nan, nan]] * 2, truth=(0, 0))])
    empty = [candidate(name, [[0.0, 0.0]] * 2, found=0) for name in ("2d", "3d")]
    with pytest.raises(DatasetError, match="2d, 3d: no foreground was predicted in any of the 2 held-out cases"):
        compare(empty)
    comparison = compare([empty[0], candidate("3d", [[0.1, 0.1]] * 2)])
    assert names(comparison)[0] == "3d"
    assert comparison.remarks == ("2d: no foreground was predicted in any held-out case",)


def test_intervals_hold_the_mean_narrow_with_cases_and_are_the_same_every_time():
    rng = np.random.default_rng(0)
    widths = []
    for cases in (20, 500):
        dice = rng.uniform(0.6, 0.9, (cases, 2)).tolist()
        once, again = (compare([candidate("3d", dice)]).candidates[0] for _ in range(2))
        assert once == again
        low, high = once.mean_dice_interval
        assert low < once.mean_dice < high
        widths.append(high - low)
    # the mean of n x 2 uniform numbers of width 0.3 has a standard deviation of 0.3 / sqrt(12 x 2 n)
    expected = [2 * 1.96 * 0.3 / np.sqrt(12 * 2 * cases) for cases in (20, 500)]
    assert widths == pytest.approx(expected, rel=0.3)


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.8, 40)
    first = candidate("2d", [[one, one] for one in base])
    second = candidate("3d", [[one + 0.02, one + 0.02] for one in base])
    chosen, other = compare([first, second]).candidates
    # always 0.02 apart, however much the cases differ
    assert other.difference_interval == pytest.approx((-0.02, -0.02))
    assert chosen.mean_dice_interval[0] < other.mean_dice
    # all 40 cases differ the same way, which is far beyond chance
    assert chosen.wilcoxon_p is None
    assert other.wilcoxon_p < 1e-6


def test_candidates_that_no_case_tells_apart_have_p_1():
    same = [[0.5, 0.7], [0.6, nan]]
    assert compare([candidate("2d", same), candidate("3d", same)]).candidates[1].wilcoxon_p == 1.0


@pytest.mark.parametrize("equal", [0, 1, 9, 60])
def test_p_is_exact_however_many_cases_are_equal(equal: int):
    # five of five differences, no two alike, are for one: by chance so in 1 of 2^5, and as often for the other
    worse = [[0.5 - gain, 0.5 - gain] for gain in (0.1, 0.15, 0.2, 0.25, 0.3)] + [[0.5, 0.5]] * equal
    _, other = compare([candidate("2d", [[0.5, 0.5]] * (5 + equal)), candidate("3d", worse)]).candidates
    assert other.wilcoxon_p == pytest.approx(2 / 2**5)


def test_what_is_made_up_where_there_is_nothing_counts_in_the_paired_test():
    # alike on three cases; nine are empty, which 2d sees and 3d does not: means 0.8 and 3 x 0.8 / 12 = 0.2
    silent = candidate("2d", [[0.8, 0.8]] * 3 + [[nan, nan]] * 9)
    guessing = candidate("3d", [[0.8, 0.8]] * 3 + [[0.0, 0.0]] * 9)
    chosen, other = compare([silent, guessing]).candidates
    assert (chosen.mean_dice, other.mean_dice, other.difference) == pytest.approx((0.8, 0.2, -0.6))
    assert other.difference_interval[1] < 0
    # nine of nine against it, which chance does in 2 of 2^9 cases = 0.004
    assert other.wilcoxon_p < 0.01


def test_paired_differences_go_the_way_of_the_difference_of_the_means():
    # 3d is better where there is something, by more than what it makes up costs it: 4 x 0.2 / 6 - 0.1 = 0.0333
    silent = np.array([[0.1]] * 4 + [[nan]] * 2)
    guessing = np.array([[0.2]] * 4 + [[0.0]] * 2)
    np.testing.assert_allclose(paired_differences(guessing, silent), [0.1] * 4 + [-0.1] * 2)
    assert np.mean(paired_differences(guessing, silent)) == pytest.approx(4 * 0.2 / 6 - 0.1)
    rng = np.random.default_rng(0)
    first, second = np.where(rng.random((2, 50, 1)) < 0.3, nan, rng.random((2, 50, 1)))
    differences = paired_differences(first, second)
    assert np.nanmean(differences) == pytest.approx(mean_dice(first) - mean_dice(second))
    np.testing.assert_array_equal(np.isnan(differences), np.isnan(first[:, 0]) & np.isnan(second[:, 0]))


def test_a_single_case_has_no_interval():
    [only] = compare([candidate("3d", [[0.5, 0.7]])]).candidates
    assert (only.mean_dice_interval, only.difference_interval) == (None, None)
    assert only.mean_dice == pytest.approx(0.6)


def test_resamples_without_a_label_or_a_case_do_not_become_nan():
    # label b is defined in one of three cases, case 2 not at all: many resamples lack one or the other
    [only] = compare([candidate("3d", [[0.5, 0.7], [0.6, nan], [nan, nan]])]).candidates
    assert np.isfinite(only.mean_dice_interval).all()
    assert 0.5 <= only.mean_dice_interval[0] <= only.mean_dice_interval[1] <= 0.7


def test_candidates_of_different_cases_cannot_be_compared():
    with pytest.raises(ValueError, match="3d was scored on other cases than 2d"):
        compare([candidate("2d", [[0.5, 0.5]]), candidate("3d", [[0.5, 0.5]] * 2)])


def test_candidates_that_were_scored_against_different_truths_are_not_compared():
    before, after = (candidate(name, [[0.5, 0.5]] * 2, truth=(9, size)) for name, size in (("2d", 9), ("3d", 8)))
    with pytest.raises(
        WorkspaceError,
        match=r"2 of 2 cases .*: case_0, case_1 \(b of case_0, in voxels of the truth: 2d 9, 3d 8\); .* scores\.json",
    ):
        compare([before, after])
    unseen = candidate("3d", [[0.5, 0.5]] * 2)
    without = [row for row in unseen.scores.rows if (row.case, row.label) != ("case_1", "a")]
    with pytest.raises(WorkspaceError, match=r"1 of 2 .*\(a of case_1, in voxels of the truth: 2d 9, 3d none\)"):
        compare([before, replace(unseen, scores=Scores(rows=tuple(without)))])


def test_means_leave_out_what_is_not_defined():
    table = np.array([[0.8, 0.4], [0.6, nan], [nan, nan]])
    assert mean_dice(table) == pytest.approx((0.7 + 0.4) / 2)
    np.testing.assert_allclose(case_means(table), [0.6, 0.6, nan])

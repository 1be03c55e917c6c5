"""A rule is kept where the mean Dice rises and no label pays; tables of components say what applying would."""

from __future__ import annotations

import numpy as np
import pytest

from nnlite.data.labels import Labels
from nnlite.evaluation.choose_rules import (
    CaseHoles,
    RuleTrial,
    components_of,
    holes_of,
    judge,
    try_component_rules,
    try_filling,
)
from nnlite.evaluation.cross_validation import mean_dice
from nnlite.inference.postprocess import Postprocessing, Rule, apply

LABELS = Labels(names=("background", "organ", "lesion"), values=(0, 1, 2))
SPARSE = Labels(names=("background", "organ", "lesion"), values=(0, 1, 2), ignore=3)
REGIONS = Labels.from_table({"organ": [1, 2], "lesion": 2, "ignore": 3})
NAMES = ("organ", "lesion")
VOXEL_ML = 0.5


def trials(*pairs: tuple[np.ndarray, np.ndarray], labels: tuple[str, ...] = NAMES) -> tuple[RuleTrial, ...]:
    cases = [components_of(truth, mask, LABELS, voxel_ml=VOXEL_ML, unit="ml") for truth, mask in pairs]
    return try_component_rules(cases, LABELS, labels, "ml")


def accepted(all_trials: tuple[RuleTrial, ...]) -> list[str]:
    return [trial.rule.in_words() for trial in all_trials if trial.accepted]


def rows(*values: str) -> list[np.ndarray]:
    return [np.array([[[int(voxel) for voxel in text]]], dtype=np.uint8) for text in values]


def random_mask(rng: np.random.Generator) -> np.ndarray:
    mask = (rng.random((6, 7, 8)) < 0.12).astype(np.uint8)
    mask[1:4, 1:4, 1:4] = 1
    mask[4:, 4:, 4:] = 2
    mask[rng.random(mask.shape) < 0.05] = 2
    return mask


def test_specks_far_from_the_organ_make_the_largest_component_of_all_foreground_pay():
    truth, mask = rows("1111000000", "1111000101")
    found = trials((truth, mask), labels=("organ",))
    assert accepted(found) == ["all foreground: only the largest component"]
    # 2 x 4 / (4 + 6) = 0.8 before, 1 after
    assert (found[0].mean_dice_before, found[0].mean_dice_after) == pytest.approx((0.8, 1.0))
    assert (found[0].cases_better, found[0].cases_worse) == (1, 0)


def test_a_label_that_falls_forbids_the_rule_for_all_foreground_but_not_for_another_label():
    truth, mask = rows("1111000022", "1111010022")
    found = trials((truth, mask))
    assert found[0].rule.label is None
    assert not found[0].accepted  # the lesion would go
    assert accepted(found) == ["organ: only the largest component"]


def test_a_minimum_size_keeps_true_lesions_that_the_largest_component_would_lose():
    # three lesions of two or three voxels and a speck: 1 ml, the smallest lesion's, is the way to drop the speck
    truth, mask = rows("22022200220000", "22022200220002")
    found = trials((truth, mask), labels=("lesion",))
    assert accepted(found) == ["lesion: without components below 1 ml"]


def test_of_two_rules_that_help_a_label_the_better_one_alone_is_accepted():
    # lesions of three voxels, 1.5 ml, and false ones of one or two: in the first two cases either rule drops these, in
    # the third the largest component loses a true lesion, too. The organ is larger, so all foreground is no way
    truth, mask = rows("111102220000000", "111102220200220")
    other_truth, other_mask = rows("111102220222000", "111102220222020")
    found = trials((truth, mask), (truth, mask), (other_truth, other_mask))
    assert accepted(found) == ["lesion: without components below 1.5 ml"]
    largest = next(one for one in found if one.rule == Rule(operation="keep_largest", label="lesion"))
    assert largest.reason == "another rule for this label does better"
    # Dice of the lesion: 6/9, 6/9 and 12/13 before; 1, 1 and 6/9 then; that of the organ is 1
    before, after = (6 / 9 + 6 / 9 + 12 / 13) / 3, (1 + 1 + 6 / 9) / 3
    assert largest.mean_dice_before == pytest.approx((1 + before) / 2)
    assert largest.mean_dice_after == pytest.approx((1 + after) / 2)


def test_a_rule_that_changes_nothing_is_not_accepted_nor_are_rules_for_labels_without_truth():
    truth, mask = rows("1100", "1100")
    found = trials((truth, mask), labels=("organ",))
    assert {trial.reason for trial in found} == {"changes no mean"}
    assert {trial.rule.label for trial in found} == {None, "organ"}


def test_removing_false_alarms_where_the_truth_is_empty_does_not_make_a_mean_nan():
    empty, speck = rows("0000000", "0000010")
    truth, mask = rows("1110000", "1110000")
    found = trials((empty, speck), (truth, mask), labels=("organ",))
    assert np.isfinite([[one.mean_dice_before, one.mean_dice_after] for one in found]).all()
    # 0 and 1 before; then the empty case drops out
    minimum = next(one for one in found if one.rule.operation == "minimum_size")
    assert (minimum.mean_dice_before, minimum.mean_dice_after) == pytest.approx((0.5, 1.0))
    assert minimum.accepted
    assert (minimum.cases_better, minimum.cases_worse) == (1, 0)  # the empty case, for which it is accepted


def test_empty_predictions_are_no_obstacle():
    truth, mask = rows("1110", "0000")
    assert accepted(trials((truth, mask), labels=("organ",))) == []


@pytest.mark.parametrize("labels", [LABELS, SPARSE, REGIONS])
def test_the_tables_say_what_applying_the_rules_gives(labels: Labels):
    rng = np.random.default_rng(0)
    pairs = [(random_mask(rng), random_mask(rng)) for _ in range(4)]
    if labels.ignore_index is not None:
        for truth, _ in pairs:
            truth[:, ::3] = labels.ignore_index
    cases = [components_of(truth, mask, labels, voxel_ml=VOXEL_ML, unit="ml") for truth, mask in pairs]
    found = try_component_rules(cases, labels, labels.structures, "ml")
    assert len(found) >= 5
    rules: tuple[Rule, ...] = ()

    def measured(rules: tuple[Rule, ...]) -> float:
        """Mean Dice of masks that the rules were applied to, voxel by voxel."""
        table = []
        for truth, mask in pairs:
            repaired = apply(mask, Postprocessing(rules=rules), labels, voxel_ml=VOXEL_ML)
            known = truth != (labels.ignore_index or 99)
            scores = []
            for members in labels.members:
                true, predicted = np.isin(truth, members) & known, np.isin(repaired, members) & known
                scores.append(2 * (true & predicted).sum() / (true.sum() + predicted.sum()))
            table.append(scores)
        return mean_dice(np.array(table))

    for trial in found:
        tried = (*(rule for rule in rules if rule.label != trial.rule.label), trial.rule)
        assert trial.mean_dice_after == pytest.approx(measured(tried))
        if trial.accepted:
            rules = (*rules, trial.rule)
    assert rules
    repaired = [(truth, apply(mask, Postprocessing(rules=rules), labels, voxel_ml=VOXEL_ML)) for truth, mask in pairs]
    filling = try_filling([holes_of(truth, mask, labels) for truth, mask in repaired], labels, labels.structures)
    assert filling[0].mean_dice_before == pytest.approx(measured(rules))
    assert filling[0].mean_dice_after == pytest.approx(measured((*rules, filling[0].rule)))


def test_holes_that_the_truth_fills_are_filled():
    truth = np.ones((1, 5, 5), dtype=np.uint8)
    mask = truth.copy()
    mask[0, 2, 2] = 0
    [trial] = try_filling([holes_of(truth, mask, LABELS)], LABELS, ("organ",))
    assert trial.accepted
    assert (trial.mean_dice_before, trial.mean_dice_after) == pytest.approx((2 * 24 / 49, 1.0))
    # the same hole in the truth: filling it would be wrong
    [trial] = try_filling([holes_of(mask, mask, LABELS)], LABELS, ("organ",))
    assert not trial.accepted
    assert trial.reason == "the mean Dice does not rise"


def test_each_label_s_holes_are_judged_for_themselves():
    good = CaseHoles(
        voxels=np.array([8, 8]),
        hits=np.array([8, 8]),
        truth_voxels=np.array([9, 8]),
        hole_voxels=np.array([0, 1, 1]),
        hole_hits=np.array([[0, 0], [1, 0], [0, 0]]),
        annotated=np.array([True, True]),
    )
    organ, lesion = try_filling([good], LABELS, NAMES)
    assert (organ.accepted, lesion.accepted) == (True, False)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_a_mean_that_is_not_defined_is_no_reason_for_a_rule():
    undefined = np.array([[0.8, np.nan]])  # no case defines the second label
    rule = Rule(operation="keep_largest")
    assert not judge(rule, undefined, undefined + 0.1).accepted
    assert not judge(rule, np.array([[0.8, 0.8]]), undefined + 0.1).accepted
    nothing, speck = rows("0000", "0200")
    assert accepted(trials((nothing, nothing), labels=("organ",))) == []
    assert accepted(trials((nothing, speck), labels=("lesion",))) == []


def test_a_rise_nobody_would_report_is_no_reason_for_a_rule():
    before = np.array([[0.8, 0.8]])
    rule = Rule(operation="keep_largest")
    hardly = judge(rule, before, before + 5e-5)
    assert hardly.reason == "the mean Dice rises by less than 0.0001"
    assert (hardly.cases_better, hardly.cases_worse) == (0, 0)
    assert judge(rule, before, before + np.array([0.3, -0.1])).reason == "the Dice of a label falls"
    assert judge(rule, before, before - 0.1).reason == "the mean Dice does not rise"
    assert judge(rule, before, before + 0.1).accepted


def test_cases_that_have_not_annotated_a_label_say_nothing_of_its_rules():
    # in the first case the speck is wrong; the second has two lesions that nobody drew, so it cannot speak against
    mask, truth = rows("0220002", "0220000")
    other, nothing = rows("0022002", "1000000")
    cases = [
        components_of(truth, mask, LABELS, voxel_ml=1, unit="ml"),
        components_of(nothing, other, LABELS, voxel_ml=1, unit="ml", annotated=(True, False)),
    ]
    found = try_component_rules(cases, LABELS, ("lesion",), "ml")
    assert accepted(found) == ["all foreground: only the largest component"]
    assert (found[0].mean_dice_before, found[0].mean_dice_after) == (pytest.approx(2 * 2 / (3 + 2)), 1)


def test_holes_in_cases_that_have_not_annotated_a_label_say_nothing():
    mask = np.pad(np.zeros((1, 1, 1), np.uint8), 1, constant_values=1)
    full = np.ones_like(mask)
    holes = [holes_of(full, mask, LABELS), holes_of(np.zeros_like(mask), mask, LABELS, annotated=(False, True))]
    [trial] = try_filling(holes, LABELS, ("organ",))
    assert (trial.accepted, trial.mean_dice_before, trial.mean_dice_after) == (True, pytest.approx(52 / 53), 1)

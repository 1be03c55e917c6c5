"""A calibration finds what predicts Dice, is judged on folds it did not see, and lets no undefined Dice decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnlite.evaluation.reliability import HeldOutReliability, calibrate, fit, rank_correlation


def rows(count: int = 50, folds: int = 5, slope: float = 1.5) -> list[HeldOutReliability]:
    """Cases whose Dice is a line in the estimated Dice; flips tell nothing."""
    rng = np.random.default_rng(0)
    estimated, flips = rng.uniform(0.6, 1, count), rng.uniform(0.8, 1, count)
    return [
        HeldOutReliability(
            case=f"case_{number}",
            fold=f"fold{number % folds}",
            label="ball",
            estimated_dice=float(estimated[number]),
            flip_agreement=float(flips[number]),
            configuration_agreement=None,
            expected_dice=None,
            dice=float(np.clip(slope * estimated[number] - 0.6, 0, 1)),
        )
        for number in range(count)
    ]


def test_a_line_is_found_and_expected_of_every_case_by_the_other_folds():
    calibration, judged = calibrate(rows())
    assert calibration is not None
    assert calibration.weights["estimated_dice"] == pytest.approx(1.5, abs=1e-6)
    assert calibration.intercept == pytest.approx(-0.6, abs=1e-6)
    assert [row.expected_dice for row in judged] == pytest.approx([row.dice for row in judged], abs=1e-6)
    assert calibration.spearman == pytest.approx(1)
    assert calibration.mean_absolute_error == pytest.approx(0, abs=1e-6)
    assert calibration.error_of_the_mean > 0.05
    features = {"estimated_dice": 0.8, "flip_agreement": 0.9}
    assert calibration.expected_dice(features) == pytest.approx(0.6, abs=1e-6)
    assert calibration.expected_dice({**features, "estimated_dice": 0.0}) == 0
    assert calibration.expected_dice({**features, "flip_agreement": None}) is None


def test_features_that_tell_nothing_are_seen_to_tell_nothing():
    rng = np.random.default_rng(1)
    noise = [replace(row, dice=float(rng.uniform())) for row in rows(200)]
    calibration, _ = calibrate(noise)
    assert calibration is not None
    assert calibration.spearman is not None
    assert abs(calibration.spearman) < 0.25
    assert calibration.mean_absolute_error == pytest.approx(calibration.error_of_the_mean, abs=0.02)


def test_a_feature_that_falls_with_the_dice_gets_no_weight():
    calibration, _ = calibrate(rows(slope=-0.5))
    assert calibration is not None
    assert all(weight >= 0 for weight in calibration.weights.values())


def test_a_case_is_judged_without_its_own_fold():
    known = rows()
    spoilt = [replace(row, dice=0.0) if row.fold == "fold0" else row for row in known]
    before = {row.case: row.expected_dice for row in calibrate(known)[1] if row.fold == "fold0"}
    after = {row.case: row.expected_dice for row in calibrate(spoilt)[1] if row.fold == "fold0"}
    assert before == after


def test_undefined_dice_and_unpredicted_labels_take_no_part_and_are_counted():
    empty = replace(rows()[0], estimated_dice=None, flip_agreement=None)
    absent, missed = replace(empty, case="absent", dice=None), replace(empty, case="missed", dice=0.0)
    undefined = replace(rows()[0], case="undefined", dice=None)
    calibration, judged = calibrate([*rows(), absent, missed, undefined])
    alone, _ = calibrate(rows())
    assert calibration is not None
    assert alone is not None
    assert (calibration.not_predicted, calibration.missed, calibration.cases) == (2, 1, 50)
    assert (calibration.intercept, calibration.weights) == (alone.intercept, alone.weights)
    assert [row.expected_dice for row in judged[-3:]] == [None, None, None]


@pytest.mark.parametrize("few", [rows(12, folds=5), rows(30, folds=1), []])
def test_too_few_cases_are_not_calibrated(few: list[HeldOutReliability]):
    # of 12 cases in 5 folds 9 are left without the largest; of one fold nothing is left
    calibration, judged = calibrate(few)
    assert calibration is None
    assert judged == tuple(few)


def test_cases_that_are_all_alike_have_no_rank_correlation():
    alike = [replace(row, estimated_dice=0.9, flip_agreement=0.9, dice=0.8) for row in rows()]
    calibration, _ = calibrate(alike)
    assert calibration is not None
    assert calibration.spearman is None
    assert calibration.expected_dice({"estimated_dice": 0.5, "flip_agreement": 0.5}) == pytest.approx(0.8)


def test_rank_correlation_equals_scipys_with_ties():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 6, 40).astype(float), rng.integers(0, 6, 40).astype(float)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second)[0])
    assert rank_correlation(first, np.exp(first)) == pytest.approx(1)


def test_the_fit_without_negative_weights_equals_scipys_nnls_on_centred_data():
    from scipy.optimize import nnls

    rng = np.random.default_rng(3)
    for _ in range(10):
        features, dice = rng.normal(size=(30, 3)), rng.normal(size=30)
        _, weights = fit(features, dice)
        expected, _ = nnls(features - features.mean(axis=0), dice - dice.mean())
        np.testing.assert_allclose(weights, expected, atol=1e-8)


def test_a_calibration_weighs_nothing_but_what_is_measured():
    made, _ = calibrate(rows())
    assert made is not None
    with pytest.raises(ValueError, match="weights of __class__; there are estimated_dice, flip_agreement"):
        replace(made, weights={"__class__": 1.0})

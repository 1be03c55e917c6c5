"""Calibrate the reliability of a prediction on held-out cases: from what was measured while predicting to a Dice.

A label's expected Dice is a linear function of its features whose weights are never negative, so that a higher feature
never means less trust, and that goes on, unlike a step function, below the worst case it was fitted on. Its quality is
measured by leaving folds out: each case is judged by a fit on the folds that other networks held out. Arrays and
numbers in, numbers out; a Dice that does not exist, of two empty masks, takes no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from nnlite.data.records import record

FEATURES = ("estimated_dice", "flip_agreement", "configuration_agreement")  # of folds, one alone knows a held-out case
FEWEST_CASES = 10  # for three numbers to be fitted; with less, the fit tells about these cases alone
NO_GAIN = 1e-12  # mean squared error of a Dice: what rounding makes of cases that are all alike is no fit


@record
class HeldOutReliability:
    """One label of one held-out case: what was measured, the Dice that was expected of it, and the true one.

    ``expected_dice`` comes from a fit on the other folds. None: too few cases for a fit, or nothing was predicted.
    ``dice`` is of the mask after the selected postprocessing; None where neither truth nor prediction holds the label.
    """

    case: str
    fold: str
    label: str
    estimated_dice: float | None
    flip_agreement: float | None
    configuration_agreement: float | None
    expected_dice: float | None
    dice: float | None


@record
class LabelCalibration:
    """How to expect a label's Dice: ``intercept`` and ``weights`` by feature; and how well that does.

    ``cases`` were fitted. ``spearman`` (None where all are alike) is the rank correlation of expected and true Dice,
    ``mean_absolute_error`` how far apart they are, both with the fold left out; ``error_of_the_mean`` is what always
    expecting the other folds' mean Dice would give. Of ``not_predicted`` held-out cases without the label in their
    prediction, ``missed`` have it in truth: there the Dice is 0, and no probability told.
    """

    intercept: float
    weights: dict[str, float]
    cases: int
    mean_dice: float
    spearman: float | None
    mean_absolute_error: float
    error_of_the_mean: float
    not_predicted: int
    missed: int

    def __post_init__(self) -> None:
        if unknown := set(self.weights) - set(FEATURES):
            raise ValueError(f"weights of {', '.join(sorted(unknown))}; there are {', '.join(FEATURES)}")

    def expected_dice(self, features: Mapping[str, float | None]) -> float | None:
        """The Dice to expect, from 0 to 1; None where a feature that it needs was not measured."""
        total = self.intercept
        for name, weight in self.weights.items():
            value = features[name]
            if value is None:
                return None
            total += weight * value
        return float(np.clip(total, 0, 1))


def calibrate(rows: Sequence[HeldOutReliability]) -> tuple[LabelCalibration | None, tuple[HeldOutReliability, ...]]:
    """Fit one label's held-out cases; the same rows with the Dice expected of each by the other folds.

    None where too few cases are left for a fit once a fold is left out.
    """
    names = [name for name in FEATURES if any(getattr(row, name) is not None for row in rows)]
    usable = [row for row in rows if row.dice is not None and all(getattr(row, name) is not None for name in names)]
    folds = sorted({row.fold for row in usable})
    largest = max((sum(row.fold == fold for row in usable) for fold in folds), default=0)
    if not names or len(usable) - largest < FEWEST_CASES:
        return None, tuple(rows)
    table = np.array([[getattr(row, name) for name in names] for row in usable], dtype=np.float64)
    dice = np.array([row.dice for row in usable], dtype=np.float64)
    fold_of = np.array([row.fold for row in usable])
    expected, means = np.zeros(len(usable)), np.zeros(len(usable))
    for fold in folds:
        inside = fold_of == fold
        intercept, weights = fit(table[~inside], dice[~inside])
        expected[inside] = np.clip(intercept + table[inside] @ weights, 0, 1)
        means[inside] = dice[~inside].mean()
    by_case = {row.case: float(value) for row, value in zip(usable, expected, strict=True)}
    intercept, weights = fit(table, dice)
    empty = [row for row in rows if row.estimated_dice is None]
    calibration = LabelCalibration(
        intercept=intercept,
        weights=dict(zip(names, weights.tolist(), strict=True)),
        cases=len(usable),
        mean_dice=float(dice.mean()),
        spearman=rank_correlation(expected, dice),
        mean_absolute_error=float(np.abs(expected - dice).mean()),
        error_of_the_mean=float(np.abs(means - dice).mean()),
        not_predicted=len(empty),
        missed=sum(row.dice is not None for row in empty),
    )
    return calibration, tuple(replace(row, expected_dice=by_case.get(row.case)) for row in rows)


def fit(features: np.ndarray, dice: np.ndarray) -> tuple[float, np.ndarray]:
    """Intercept and weights (features,) of the least squares fit to ``dice`` (cases,) without negative weights.

    The best of the fits on every subset of the few features (cases, features): the optimum uses one of them.

    >>> intercept, weights = fit(np.array([[0.0, 1.0], [0.5, 0.0], [1.0, 1.0]]), np.array([0.2, 0.5, 0.8]))
    >>> round(intercept, 6), weights.round(6).tolist()
    (0.2, [0.6, 0.0])
    """
    count = features.shape[1]
    best, best_error = (float(dice.mean()), np.zeros(count)), float(((dice - dice.mean()) ** 2).sum())
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            columns = np.column_stack([np.ones(len(dice)), features[:, chosen]])
            solution = np.linalg.lstsq(columns, dice, rcond=None)[0]
            error = float(((columns @ solution - dice) ** 2).sum())
            if best_error - error > NO_GAIN * len(dice) and (solution[1:] >= 0).all():
                weights = np.zeros(count)
                weights[chosen] = solution[1:]
                best, best_error = (float(solution[0]), weights), error
    return best


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation of two series; None where one of them is constant. Ties share their mean rank.

    >>> rank_correlation(np.array([0.1, 0.5, 0.7]), np.array([10, 30, 20]))
    0.5
    """
    ranks = np.stack([_ranks(values) for values in (first, second)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return None
    return round(float(np.corrcoef(ranks)[0, 1]), 12)  # rounding noise is no information


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]

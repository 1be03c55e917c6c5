"""Lesions of single rows counted by hand, and of noise counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnlite.evaluation.lesions import LesionCounts, count_lesions
from nnlite.evaluation.runs import find_runs


def row(text: str) -> np.ndarray:
    return np.array([[[int(letter) for letter in text.replace(".", "0")]]], dtype=np.uint8)


def lesions(truth: str, prediction: str, count: int = 2) -> LesionCounts:
    return count_lesions(find_runs(row(truth)), find_runs(row(prediction)), count)


def test_one_voxel_in_common_finds_a_lesion() -> None:
    counts = lesions("1111..11..11", "...11......1")
    assert (counts.found[1], counts.missed[1], counts.false_alarms[1]) == (2, 1, 0)
    assert counts.sensitivity[1] == pytest.approx(2 / 3)
    assert counts.f1[1] == pytest.approx(2 * 2 / (2 * 2 + 1))
    # Dice 2 * 1 / (4 + 2), 0 for the missed one, 2 * 1 / (2 + 1)
    assert counts.dice[1] == pytest.approx((1 / 3 + 0 + 2 / 3) / 3)


def test_what_touches_no_lesion_is_a_false_alarm() -> None:
    counts = lesions("11......", "11.11.1.")
    assert (counts.found[1], counts.missed[1], counts.false_alarms[1]) == (1, 0, 2)
    assert counts.sensitivity[1] == 1
    assert counts.f1[1] == pytest.approx(2 / (2 + 2))
    assert counts.dice[1] == pytest.approx(1 / 3)


def test_a_prediction_across_two_lesions_finds_both() -> None:
    counts = lesions("11.11", "11111")
    assert (counts.found[1], counts.missed[1], counts.false_alarms[1]) == (2, 0, 0)
    assert counts.dice[1] == pytest.approx(2 * 2 / (2 + 5))  # for either, all five predicted voxels count


def test_pieces_of_one_lesion_are_taken_together() -> None:
    counts = lesions("11111", "11.11")
    assert (counts.found[1], counts.missed[1], counts.false_alarms[1]) == (1, 0, 0)
    assert counts.dice[1] == pytest.approx(2 * 4 / (5 + 4))


def test_another_label_does_not_find_a_lesion() -> None:
    counts = lesions("11..22", "22..22", count=3)
    assert counts.found.tolist() == [0, 0, 1]
    assert counts.missed.tolist() == [0, 1, 0]
    assert counts.false_alarms.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("truth", "prediction", "f1", "sensitivity", "dice"),
    [("...", "...", np.nan, np.nan, np.nan), ("1.1", "...", 0, 0, 0), ("...", "1..", 0, np.nan, 0)],
)
def test_empty_masks_follow_the_formulas(
    truth: str, prediction: str, f1: float, sensitivity: float, dice: float
) -> None:
    counts = lesions(truth, prediction)
    ours = [counts.f1[1], counts.sensitivity[1], counts.dice[1]]
    assert ours == pytest.approx([f1, sensitivity, dice], nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_noise_counts_as_one_by_one(seed: int) -> None:
    truth, prediction = np.random.default_rng(seed).random((2, 9, 10, 11)) < 0.06
    counts = count_lesions(find_runs(truth.astype(np.uint8)), find_runs(prediction.astype(np.uint8)), count=2)
    box = np.ones((3, 3, 3))
    (ours, number), (theirs, others) = ndimage.label(truth, box), ndimage.label(prediction, box)
    touched = [np.unique(theirs[(ours == i) & prediction]) for i in range(1, number + 1)]
    hit = set(np.concatenate(touched).tolist())
    dice = sum(
        2 * np.count_nonzero((ours == i) & prediction) / (np.count_nonzero(ours == i) + np.isin(theirs, partners).sum())
        for i, partners in enumerate(touched, start=1)
        if len(partners)
    )
    assert counts.found[1] == sum(len(partners) > 0 for partners in touched) > 0
    assert counts.missed[1] == number - counts.found[1] > 0
    assert counts.false_alarms[1] == others - len(hit) > 0
    assert counts.dice_sums[1] == pytest.approx(dice)

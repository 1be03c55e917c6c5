"""A CRF is accepted where the mean over held-out cases rises and no label pays for it."""

from __future__ import annotations

import numpy as np

from nnlite.evaluation.choose_crf import crf_choices, judge_crf

CHOICES = crf_choices((1.0, 1.0, 1.0))[:3]
BEFORE = np.array([[0.8, 0.6], [0.6, 0.8]])


def test_the_best_of_those_that_help_is_accepted():
    after = [BEFORE + 0.01, BEFORE + 0.03, BEFORE - 0.01]
    trials = judge_crf(CHOICES, BEFORE, after, ("liver", "spleen"))
    assert [trial.accepted for trial in trials] == [False, True, False]
    assert [trial.reason for trial in trials] == ["another choice is better", "", "the mean Dice does not rise"]
    assert np.allclose([trial.mean_dice_after for trial in trials], [0.71, 0.73, 0.69])
    assert (trials[1].mean_dice_before, trials[1].cases_better, trials[1].cases_worse) == (0.7, 2, 0)


def test_no_label_may_pay_for_another():
    after = [BEFORE + np.array([0.1, -0.02])] * 3
    trials = judge_crf(CHOICES, BEFORE, after, ("liver", "spleen"))
    assert [trial.reason for trial in trials] == ["the Dice of spleen falls"] * 3
    assert not any(trial.accepted for trial in trials)


def test_undefined_dice_counts_nowhere():
    gaps = np.array([[0.8, np.nan], [np.nan, 0.6]])
    trials = judge_crf(CHOICES[:1], gaps, [gaps + 0.1], ("liver", "spleen"))
    assert trials[0].accepted
    assert trials[0].cases_better == 2


def test_cases_that_it_empties_rightly_are_better_and_those_it_makes_something_up_in_are_worse():
    before, after = np.array([[0.8], [0.0], [np.nan]]), np.array([[0.8], [np.nan], [0.0]])
    [trial] = judge_crf(CHOICES[:1], before, [after], ("liver",))
    # (0.8 + 0) / 2 before and after: one rise from 0 to the mean of what is defined then, 0.4, and one fall to 0
    assert (trial.mean_dice_before, trial.mean_dice_after) == (0.4, 0.4)
    assert (trial.cases_better, trial.cases_worse) == (1, 1)

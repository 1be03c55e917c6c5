"""The learning rate falls to zero with the epochs, or with the time."""

from __future__ import annotations

import pytest

from nnlite.training.config import TrainConfig
from nnlite.training.schedule import Schedule


def test_the_learning_rate_falls_polynomially_with_the_epochs() -> None:
    schedule = Schedule(TrainConfig(epochs=100, learning_rate=0.01))
    assert schedule.learning_rate(0) == 0.01
    assert schedule.learning_rate(50) == pytest.approx(0.01 * 0.5**0.9)
    assert schedule.learning_rate(100) == 0


def test_a_training_by_epochs_ends_after_its_last() -> None:
    schedule = Schedule(TrainConfig(epochs=3))
    assert [schedule.finished(epoch) for epoch in range(5)] == [False, False, False, True, True]


def test_epochs_foresee_the_time_that_earlier_ones_took() -> None:
    schedule = Schedule(TrainConfig(epochs=10), elapsed_s=20)
    assert schedule.remaining_s(2) == pytest.approx(80, abs=1)  # 10 s each, eight to come
    assert schedule.foreseen_epochs(2) == 10
    assert schedule.remaining_s(11) == 0


def test_under_a_time_budget_the_rate_falls_with_the_time_whatever_the_epoch() -> None:
    schedule = Schedule(TrainConfig(time_budget_s=1000, learning_rate=0.01), elapsed_s=750)
    assert schedule.learning_rate(0) == pytest.approx(0.01 * 0.25**0.9, rel=1e-2)
    assert schedule.learning_rate(900) == pytest.approx(schedule.learning_rate(0), rel=1e-2)
    assert schedule.remaining_s(3) == pytest.approx(250, abs=1)
    assert schedule.foreseen_epochs(3) == 4  # 250 s each: one more fits


def test_a_time_budget_ends_the_training_when_it_is_used_up() -> None:
    config = TrainConfig(time_budget_s=1000)
    assert not Schedule(config, elapsed_s=990).finished(10**6)
    spent = Schedule(config, elapsed_s=1001)
    assert spent.finished(0)
    assert spent.learning_rate(0) == 0
    assert spent.remaining_s(0) == 0

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


def rates(**settings) -> list[float]:
    schedule = Schedule(TrainConfig(epochs=8, learning_rate=1.0, **settings))
    return [schedule.learning_rate(epoch) for epoch in range(9)]


def test_a_cosine_is_half_a_wave_from_the_whole_rate_to_none() -> None:
    found = rates(schedule="cosine")
    assert found[0] == 1
    assert found[2] == pytest.approx((1 + 2**-0.5) / 2)
    assert found[4] == pytest.approx(0.5)
    assert found[8] == pytest.approx(0)


def test_in_steps_the_rate_falls_to_a_tenth_at_half_and_at_three_quarters() -> None:
    assert rates(schedule="step") == pytest.approx([1] * 4 + [0.1] * 2 + [0.01] * 3)


def test_a_constant_rate_stays() -> None:
    assert rates(schedule="constant") == [1] * 9


def test_on_a_plateau_the_rate_falls_to_a_fifth_with_each_drop() -> None:
    schedule = Schedule(TrainConfig(schedule="plateau", learning_rate=1.0, time_budget_s=100))
    assert [schedule.learning_rate(3, drops=drops) for drops in range(3)] == pytest.approx([1, 0.2, 0.04])


def test_in_the_warm_up_the_rate_rises_evenly() -> None:
    assert rates(schedule="constant", warm_up=3) == pytest.approx([0.25, 0.5, 0.75] + [1] * 6)
    assert rates(schedule="constant", warm_up=0.25) == pytest.approx([1 / 3, 2 / 3] + [1] * 7)  # a quarter: two epochs
    assert rates(warm_up=1)[:2] == pytest.approx([0.5, (7 / 8) ** 0.9])  # it is a factor of the schedule


def test_a_share_of_a_time_budget_warms_up_with_the_time() -> None:
    config = TrainConfig(time_budget_s=1000, learning_rate=1.0, schedule="constant", warm_up=0.1)
    assert Schedule(config, elapsed_s=50).learning_rate(0) == pytest.approx(0.5, abs=0.01)
    assert Schedule(config, elapsed_s=200).learning_rate(0) == 1

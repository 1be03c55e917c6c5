"""Steps that were left out are told of once, with their cases, also by a training that goes on."""

from __future__ import annotations

import pytest
import torch

from nnlite.training.skipped_steps import LOOK_EVERY, SkippedSteps

CPU = torch.device("cpu")


def noted(flags: list[bool]) -> SkippedSteps:
    steps = SkippedSteps()
    for number, flag in enumerate(flags):
        steps.note(number, (f"case_{number}", f"case_{number}", "other"), torch.tensor(flag))
    return steps


def test_each_step_that_was_left_out_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    steps = noted([False, True, False, True])
    assert steps.look("3d epoch 5") == 2
    assert steps.look("3d epoch 5") == 0
    assert steps.total == 2
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "3d epoch 5, step 1",
        "3d epoch 5, step 3",
    ]
    assert "its batch was drawn from case_1, other" in caplog.text


def test_it_is_time_to_look_after_some_steps() -> None:
    assert not noted([False] * (LOOK_EVERY - 1)).due
    assert noted([False] * LOOK_EVERY).due


def test_what_was_not_told_of_yet_is_told_of_later(caplog: pytest.LogCaptureFixture) -> None:
    steps = SkippedSteps()
    steps.restore(noted([True, False]).state(), CPU)
    steps.note(2, ("case_2",), torch.tensor(True))
    assert steps.look("later") == 2
    assert "later, step 0" in caplog.text

"""What an unfinished training may be asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nnlite.errors import UsageError
from nnlite.pipeline.resume import require_as_begun
from nnlite.training.config import TrainConfig
from nnlite.workspace import RunFolder

RUN = RunFolder(folder=Path("work/brain/runs/3d/fold1"))
BEGUN = TrainConfig(epochs=100, iterations=50, seed=3)


@pytest.mark.parametrize("resume", [False, True])
def test_the_same_settings_are_fine(resume: bool):
    require_as_begun(RUN, BEGUN, BEGUN, resume=resume)


@pytest.mark.parametrize(
    ("change", "before", "now"),
    [
        ({"epochs": 7}, "100 epochs of 50 iterations", "7 epochs of 50 iterations"),
        ({"iterations": 7}, "100 epochs of 50 iterations", "100 epochs of 7 iterations"),
        ({"time_budget_s": 90.0}, "100 epochs of 50 iterations", "90 s with epochs of 50 iterations"),
    ],
)
def test_another_length_is_refused_with_both_values_unless_asked_for(change: dict, before: str, now: str):
    wanted = replace(BEGUN, **change)
    with pytest.raises(
        UsageError, match=f"3d fold1 was begun for {before}, not {now}, and is not finished: .*--resume"
    ):
        require_as_begun(RUN, BEGUN, wanted, resume=False)
    require_as_begun(RUN, BEGUN, wanted, resume=True)


def test_under_a_time_budget_the_number_of_epochs_does_not_matter():
    begun = replace(BEGUN, time_budget_s=90.0)
    require_as_begun(RUN, begun, replace(begun, epochs=7), resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_another_augmentation_is_always_refused(resume: bool):
    with pytest.raises(UsageError, match=r"with the augmentation nnunet, not ct, .*or delete work.*fold1"):
        require_as_begun(RUN, BEGUN, replace(BEGUN, augmentation="ct"), resume=resume)


@pytest.mark.parametrize("resume", [False, True])
def test_another_seed_is_always_refused(resume: bool):
    with pytest.raises(UsageError, match=r"begun with seed 3, not 0, .*or delete work.*fold1 to begin anew"):
        require_as_begun(RUN, BEGUN, replace(BEGUN, seed=0), resume=resume)

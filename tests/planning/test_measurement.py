from __future__ import annotations

import json
import math

import pytest

from nnlite.data.records import from_json, to_json
from nnlite.errors import PlanError
from nnlite.planning.measurement import StepMeasurement

TAKEN = {
    "device": "NVIDIA H200",
    "precision": "bf16",
    "patch_size": (128, 96),
    "batch_size": 12,
    "memory_gib": 7.5,
    "step_s": 0.1,
    "torch_version": "2.13.0",
}


def test_a_measurement_survives_its_file() -> None:
    measured = StepMeasurement(**TAKEN)
    assert from_json(to_json(measured), StepMeasurement, source="measurement") == measured


@pytest.mark.parametrize("number", [-1.5, math.nan, math.inf])
@pytest.mark.parametrize("key", ["memory_gib", "step_s"])
def test_what_no_step_can_cost_is_refused_with_key_and_number(key: str, number: float) -> None:
    with pytest.raises(PlanError, match=rf"NVIDIA H200: {key} must be .*, not {number}"):
        StepMeasurement(**{**TAKEN, key: number})


def test_a_step_may_fit_into_memory_that_was_there_but_takes_its_time() -> None:
    assert StepMeasurement(**{**TAKEN, "memory_gib": 0.0}).memory_gib == 0
    with pytest.raises(PlanError, match="step_s must be a positive number, not 0"):
        StepMeasurement(**{**TAKEN, "step_s": 0.0})


def test_a_precision_that_no_training_has_is_refused() -> None:
    content = {**json.loads(to_json(StepMeasurement(**TAKEN))), "precision": "fp8"}
    with pytest.raises(PlanError, match="measurement: precision"):
        from_json(json.dumps(content), StepMeasurement, source="measurement", error=PlanError)

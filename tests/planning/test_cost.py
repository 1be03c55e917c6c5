from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny import plan as tiny_plan

from nnlite.errors import PlanError
from nnlite.planning.cost import parameters, require_within_memory, slow_steps, step_gib, step_multiplications
from nnlite.planning.planner import Plan
from nnlite.planning.topology import plan_topology


def gpu(memory_gib: float, batch_size: int = 3) -> Plan:
    made = tiny_plan()
    one = replace(made.configurations["3d"], batch_size=batch_size)
    return replace(made, device="cuda", memory_gib=memory_gib, configurations={"3d": one})


def test_a_cpu_s_plan_has_no_estimate_of_memory() -> None:
    made = tiny_plan()
    assert step_gib(made, made.configuration("3d")) is None
    require_within_memory(made)


def test_memory_and_multiplications_grow_with_the_batch() -> None:
    one, ten = gpu(8, 1), gpu(8, 10)
    for cost in (step_gib, step_multiplications):
        assert cost(ten, ten.configuration("3d")) == pytest.approx(10 * cost(one, one.configuration("3d")))
    assert parameters(ten, ten.configuration("3d")) == parameters(one, one.configuration("3d"))


def test_a_step_that_needs_clearly_more_than_was_planned_for_is_refused_with_both_numbers() -> None:
    per_sample = step_gib(gpu(8, 1), gpu(8, 1).configuration("3d"))
    fits = int(8 / per_sample)
    require_within_memory(gpu(8, fits))
    require_within_memory(gpu(8, int(1.2 * fits)))  # nnU-Net's own rounding
    with pytest.raises(PlanError, match=r"3d: patch 16 x 16 x 16 with batch \d+ needs about 16\.\d GiB, .* for 8 GiB"):
        require_within_memory(gpu(8, 2 * fits + 100))


def test_a_slow_step_is_named_only_on_a_cpu() -> None:
    made = tiny_plan()
    slow = replace(made, configurations={"3d": replace(made.configurations["3d"], batch_size=100_000)})
    [remark] = slow_steps(slow)
    assert remark.startswith("3d: a step takes ")
    assert slow_steps(made) == ()
    assert slow_steps(gpu(8, 100_000)) == ()


def test_a_cascade_counts_the_weights_of_the_previous_stage_s_channels():
    topology, _ = plan_topology((1.0, 1.0, 1.0), (40, 56, 40), base_features=8)
    plan = SimpleNamespace(channels=("MRI",), labels=SimpleNamespace(foreground=("a", "b"), count=3))
    alone, cascade = (SimpleNamespace(topology=topology, previous_stage=stage) for stage in (None, "3d-lowres"))
    kernel = 8 * 27  # 3x3x3 weights for each of the first stage's 8 features, per further input channel
    assert parameters(plan, cascade) - parameters(plan, alone) == 2 * kernel  # type: ignore[arg-type]

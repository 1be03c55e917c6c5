"""Confirm a plan by what a training step really costs on this machine: measure, correct the prediction, plan again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from nnlite.errors import PlanError
from nnlite.planning.configurations import Configuration
from nnlite.planning.cost import step_gib
from nnlite.planning.gpu import usable_gib
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.planner import Plan
from nnlite.training.config import default_config
from nnlite.training.probe import probe, probe_apart

ATTEMPTS = 6  # a first plan, one corrected by its measurement, and a few steps back where that was too bold
AFTER_OUT_OF_MEMORY = 1.3  # how much more than predicted a step is taken to need when it did not even run

Measure = Callable[[Plan, Configuration], StepMeasurement | None]
"""Memory and time of a configuration's step, None if it did not fit into the memory."""


def measure_here(plan: Plan, configuration: Configuration) -> StepMeasurement | None:
    """Measure on this machine, which has the plan's device: a GPU in this process, a CPU in one of its own."""
    device = torch.device(plan.device)
    config = default_config(device)
    if device.type == "cuda":
        return probe(plan, configuration, config, device)
    return probe_apart(plan, configuration, config, device.type)


def with_measurements(plan: Plan, measure: Measure) -> tuple[Plan, tuple[str, ...]]:
    """The plan with a measurement in each configuration, and a remark for each that could not be measured."""
    configurations, remarks = {}, []
    for name, configuration in plan.configurations.items():
        taken = None
        try:
            taken = measure(plan, configuration)
            if taken is None:
                remarks.append(f"{name}: a training step does not fit into the memory of this machine")
        except PlanError as problem:  # the plan is as good as it was without a measurement
            remarks.append(str(problem))
        configurations[name] = replace(configuration, measured=taken)
    return replace(plan, configurations=configurations), tuple(remarks)


def search(decide: Callable[[Mapping[int, float]], Plan], measure: Measure) -> Plan:
    """The largest plan of a GPU whose every step was seen to fit.

    ``decide`` plans with corrections, by number of axes: measured over predicted memory. Each plan that is tried
    corrects the next, upwards or downwards, until there is none left to try. PlanError if no plan fits.
    """
    used: dict[int, float] = {}
    plan, fitting = decide(used), None
    tried: dict[tuple[object, ...], StepMeasurement | None] = {}
    for _ in range(ATTEMPTS):
        corrections: dict[int, float] = {}
        for configuration in plan.configurations.values():
            key = _step(configuration)
            if key not in tried:
                tried[key] = measure(plan, configuration)
            ndim, taken = configuration.topology.ndim, tried[key]
            if taken is None:
                factor = AFTER_OUT_OF_MEMORY * used.get(ndim, 1.0)
            else:
                factor = taken.memory_gib / step_gib(plan, configuration)
            corrections[ndim] = max(corrections.get(ndim, 0.0), factor)
        measured = {name: tried[_step(one)] for name, one in plan.configurations.items()}
        if _fits(plan, measured):
            fitting = _larger(fitting, _attached(plan, measured))
        used, plan = corrections, decide(corrections)
        if all(_step(configuration) in tried for configuration in plan.configurations.values()):
            known = {name: tried[_step(one)] for name, one in plan.configurations.items()}
            if _fits(plan, known):
                return _larger(fitting, _attached(plan, known))
            if fitting is not None:
                return fitting
    if fitting is None:
        raise PlanError(
            f"no plan for {plan.memory_gib:g} GiB was seen to fit this GPU; is another program using it? "
            "Plan for less with --gpu-memory, or without measuring with --no-probe"
        )
    return fitting


def _step(configuration: Configuration) -> tuple[object, ...]:
    """All that the memory of a step depends on, within one plan."""
    return (configuration.patch_size, configuration.batch_size, configuration.topology, configuration.previous_stage)


def _fits(plan: Plan, measured: Mapping[str, StepMeasurement | None]) -> bool:
    assert plan.memory_gib is not None, "a GPU's plan has its memory"
    usable = usable_gib(plan.memory_gib)
    return all(taken is not None and taken.memory_gib <= usable for taken in measured.values())


def _attached(plan: Plan, measured: Mapping[str, StepMeasurement | None]) -> Plan:
    return replace(
        plan, configurations={name: replace(one, measured=measured[name]) for name, one in plan.configurations.items()}
    )


def _larger(one: Plan | None, other: Plan) -> Plan:
    """The plan whose steps were seen to take more memory, those together that both plan.

    A plan of larger patches may have fewer configurations: where a patch sees enough, there is no low resolution.
    """
    if one is None:
        return other
    shared = one.configurations.keys() & other.configurations.keys()

    def taken(plan: Plan) -> float:
        return sum(c.measured.memory_gib for name in shared if (c := plan.configurations[name]).measured is not None)

    return max(other, one, key=taken)

"""What following a plan costs, counted from the plan itself: also after it was edited or taken from elsewhere.

Numbers in, numbers out, no torch. The memory is nnU-Net's estimate (``gpu.py``), not a measurement.
"""

from __future__ import annotations

from nnlite.errors import PlanError
from nnlite.planning.configurations import Configuration
from nnlite.planning.cpu import PASSES, STEP_BUDGET
from nnlite.planning.gpu import estimated_gib
from nnlite.planning.planner import Plan
from nnlite.planning.spacing import voxels
from nnlite.planning.topology import multiply_adds, parameter_count

ROUNDED_UP = 1.25  # nnU-Net rounds its batch to the nearest: 2.5 becomes 3, 1.2 times what fits. More is a mistake


def input_channels(plan: Plan, configuration: Configuration) -> int:
    """Channels that the network sees: the image's, and in a cascade one per label of the stage before."""
    return len(plan.channels) + (len(plan.labels.foreground) if configuration.previous_stage else 0)


def parameters(plan: Plan, configuration: Configuration) -> int:
    """Weights of the configuration's network."""
    channels = input_channels(plan, configuration)
    return parameter_count(configuration.topology, channels=channels, labels=plan.labels.count)


def step_gib(plan: Plan, configuration: Configuration) -> float | None:
    """Estimated memory of a training step on the GPU that was planned for; None for a CPU."""
    if plan.memory_gib is None:
        return None
    return estimated_gib(
        configuration.topology,
        configuration.patch_size,
        configuration.batch_size,
        labels=plan.labels.count,
        planner=plan.planner,
    )


def step_multiplications(plan: Plan, configuration: Configuration) -> float:
    """Multiplications of a training step, forward and backward."""
    channels = input_channels(plan, configuration)
    forward = multiply_adds(
        configuration.topology, configuration.patch_size, channels=channels, labels=plan.labels.count
    )
    return PASSES * configuration.batch_size * forward


def require_within_memory(plan: Plan) -> None:
    """PlanError naming every configuration whose training step needs clearly more memory than was planned for."""
    faults = []
    for name, configuration in plan.configurations.items():
        needed = step_gib(plan, configuration)
        if needed is not None and plan.memory_gib is not None and needed > ROUNDED_UP * plan.memory_gib:
            faults.append(
                f"{name}: patch {voxels(configuration.patch_size)} with batch {configuration.batch_size} needs about "
                f"{needed:.1f} GiB, the plan is for {plan.memory_gib:g} GiB"
            )
    if faults:
        raise PlanError(
            f"{'; '.join(faults)}; make patch_size or batch_size smaller, or plan for more memory (--gpu-memory, or "
            "memory_gib in plan.json)"
        )


def slow_steps(plan: Plan) -> tuple[str, ...]:
    """A remark per configuration of a CPU's plan whose step takes longer than the planner would allow."""
    if plan.device != "cpu":
        return ()
    return tuple(
        f"{name}: a step takes {cost / 1e9:.0f} billion multiplications, a CPU's plan allows {STEP_BUDGET / 1e9:.0f}"
        for name, configuration in plan.configurations.items()
        if (cost := step_multiplications(plan, configuration)) > STEP_BUDGET
    )

"""What following a plan costs, counted from the plan itself: also after it was edited or taken from elsewhere.

Numbers in, numbers out, no torch. Memory is counted in bytes (``memory.py``). Time follows from a measured step: of the
configuration itself, or of another one on the same machine, in proportion to their multiplications.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nnlite.errors import PlanError
from nnlite.planning.configurations import Configuration
from nnlite.planning.counts import multiply_adds, parameter_count
from nnlite.planning.cpu import PASSES, STEP_BUDGET, passes
from nnlite.planning.gpu import usable_gib
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.memory import Optimizer, Precision, step_memory
from nnlite.planning.network import NetworkChoice, choice_of, ways_out
from nnlite.planning.nnunet import estimated_gib
from nnlite.planning.planner import Device, Plan
from nnlite.planning.spacing import voxels

ROUNDED_UP = 1.25  # nnU-Net rounds its batch to the nearest: 2.5 becomes 3, 1.2 times what fits. More is a mistake
VALIDATION = 1 / 5 / PASSES  # an epoch looks at a fifth as many validation batches, forward only
OPTIMIZER: dict[Device, Optimizer] = {"cuda": "sgd", "cpu": "adamw"}
PRECISION: dict[Device, Precision] = {"cuda": "bf16", "cpu": "fp32"}  # where no measurement tells; 16 bits need less
STATES = {"sgd": 1, "adamw": 2}  # values per weight that the optimiser keeps, and a checkpoint with them
SHALLOW = 2  # resolutions: the least that is planned, and all that is left where weights alone fill a device
IMAGE_BYTES = 4  # per voxel and channel of a preprocessed case


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One configuration. What needs a measurement is None where nothing was measured.

    ``measured_gib`` is the peak that the probe saw, ``step_s`` a training step, ``fold_h`` the training of one fold,
    ``folds_h`` that of all folds; predicting the held-out cases comes on top. ``disk_gib`` holds the preprocessed cases
    and the runs of all folds.
    """

    parameters: int
    predicted_gib: float
    measured_gib: float | None
    step_s: float | None
    fold_h: float | None
    folds_h: float | None
    disk_gib: float


def costs(plan: Plan, folds: int) -> dict[str, Cost]:
    """What every configuration of a plan costs, by its name; a cross-validation trains it ``folds`` times."""
    return {name: _cost(plan, configuration, folds) for name, configuration in plan.configurations.items()}


def _cost(plan: Plan, configuration: Configuration, folds: int) -> Cost:
    measured = measurement(configuration)
    step_s = step_seconds(plan, configuration)
    steps = configuration.epochs * configuration.iterations * (1 + VALIDATION)
    fold_h = None if step_s is None else step_s * steps / 3600
    return Cost(
        parameters=parameters(plan, configuration),
        predicted_gib=step_gib(plan, configuration),
        measured_gib=None if measured is None else measured.memory_gib,
        step_s=step_s,
        fold_h=fold_h,
        folds_h=None if fold_h is None else fold_h * folds,
        disk_gib=disk_gib(plan, configuration, folds),
    )


def measurement(configuration: Configuration) -> StepMeasurement | None:
    """The measurement of a configuration, unless it was taken of another patch or batch than it now has."""
    taken = configuration.measured
    if taken is None or (taken.patch_size, taken.batch_size) != (configuration.patch_size, configuration.batch_size):
        return None
    return taken


def step_seconds(plan: Plan, configuration: Configuration) -> float | None:
    """Seconds of a training step, measured or in proportion to a configuration of the plan that was; else None."""
    own = measurement(configuration)
    if own is not None:
        return own.step_s
    work = step_multiplications(plan, configuration)
    for other in plan.configurations.values():
        taken = measurement(other)
        if taken is not None and other.topology.ndim == configuration.topology.ndim:
            return taken.step_s * work / step_multiplications(plan, other)
    return None


def input_channels(plan: Plan, configuration: Configuration) -> int:
    """Channels that the convolutions see: the preprocessed image's, the atlas', and a previous stage's labels."""
    atlas = plan.prior is not None and plan.prior.use == "channel"
    return (
        len(plan.image_channels)
        + (len(plan.labels.structures) if atlas else 0)
        + (len(plan.labels.foreground) if configuration.previous_stage else 0)
    )


def parameters(plan: Plan, configuration: Configuration) -> int:
    """Weights of the configuration's network."""
    channels = input_channels(plan, configuration)
    return parameter_count(configuration.topology, channels=channels, labels=plan.labels.outputs)


def parameters_of_all_stages(plan: Plan, configuration: Configuration) -> int:
    """Weights of all networks that a prediction with the configuration asks: a cascade's first stage is one of them."""
    own, first = parameters(plan, configuration), configuration.previous_stage
    return own if first is None else own + parameters_of_all_stages(plan, plan.configuration(first))


def correction(plan: Plan, configuration: Configuration) -> float:
    """The share of its predicted memory that a step of this network took, here or in the plan that is followed.

    Steps over other patches, batches or labels will need as much less than predicted. At most 1, also where nothing is
    known: small steps have costs besides that do not grow with them.
    """
    taken = configuration.measured
    if plan.device == "cpu" or taken is None:
        return configuration.correction
    if configuration.topology.fitting_size(taken.patch_size) != taken.patch_size:  # strides were edited
        return configuration.correction
    patch, batch = taken.patch_size, taken.batch_size
    predicted = step_gib(plan, replace(configuration, patch_size=patch, batch_size=batch, correction=1.0))
    return min(1.0, taken.memory_gib / predicted)


def step_gib(plan: Plan, configuration: Configuration) -> float:
    """Predicted peak of the memory that tensors take in a training step, corrected as in the plan that is followed."""
    taken = configuration.measured
    memory = step_memory(
        configuration.topology,
        configuration.patch_size,
        configuration.batch_size,
        channels=input_channels(plan, configuration),
        labels=plan.labels.outputs,
        precision=PRECISION[plan.device] if taken is None else taken.precision,
        optimizer=OPTIMIZER[plan.device],
        device=plan.device,
    )
    return configuration.correction * memory.peak / 2**30


def step_multiplications(plan: Plan, configuration: Configuration) -> float:
    """Multiplications of a training step, forward and backward."""
    channels = input_channels(plan, configuration)
    forward = multiply_adds(
        configuration.topology, configuration.patch_size, channels=channels, labels=plan.labels.outputs
    )
    return passes(configuration.topology) * configuration.batch_size * forward


def disk_gib(plan: Plan, configuration: Configuration, folds: int) -> float:
    """Disk for the preprocessed cases and the runs of so many folds: two models each, and the state to resume from."""
    slices = 3 - configuration.topology.ndim  # a 2D configuration keeps all slices, whose number its shape leaves out
    depth = next((one.median_shape[0] for one in plan.configurations.values() if one.topology.ndim == 3), 1.0)
    case_voxels = math.prod(configuration.median_shape) * depth**slices
    channels = len(plan.image_channels)
    label_bytes = (1 if plan.labels.index_count <= 256 else 2) * (2 if configuration.previous_stage else 1)
    cases = plan.training_cases * case_voxels * (channels * IMAGE_BYTES + label_bytes)
    values = 2 + 1 + STATES[OPTIMIZER[plan.device]]
    return (cases + folds * values * 4 * parameters(plan, configuration)) / 2**30


def require_within_memory(plan: Plan) -> None:
    """PlanError naming every configuration whose training step needs more memory than was planned for."""
    if plan.memory_gib is None:
        return
    faults = []
    for name, configuration in plan.configurations.items():
        needed, allowed = _needed_and_allowed(plan, configuration, plan.memory_gib)
        if needed > allowed:
            faults.append(
                f"{name}: patch {voxels(configuration.patch_size)} with batch {configuration.batch_size} needs about "
                f"{needed:.1f} GiB, of the {plan.memory_gib:g} GiB planned for {allowed:.1f} may be used"
            )
    if faults:
        raise PlanError(
            f"{'; '.join(faults)}; make patch_size or batch_size smaller, or plan for more memory (--gpu-memory, or "
            "memory_gib in plan.json)"
        )


def _needed_and_allowed(plan: Plan, configuration: Configuration, memory_gib: float) -> tuple[float, float]:
    """GiB of a step and the most it may take: nnU-Net's plans by nnU-Net's rule, all others in bytes."""
    if plan.preset == "nnunet":
        estimate = estimated_gib(
            configuration.topology,
            configuration.patch_size,
            configuration.batch_size,
            labels=plan.labels.outputs,
            planner=plan.planner,
        )
        return estimate, ROUNDED_UP * memory_gib
    taken = measurement(configuration)
    corrected = replace(configuration, correction=correction(plan, configuration))
    return (step_gib(plan, corrected) if taken is None else taken.memory_gib), usable_gib(memory_gib)


def slow_steps(plan: Plan) -> tuple[str, ...]:
    """A remark per configuration of a CPU's plan whose step takes longer than the planner would allow."""
    if plan.device != "cpu":
        return ()
    return tuple(
        f"{name}: a step takes {cost / 1e9:.0f} billion multiplications, a CPU's plan allows {STEP_BUDGET / 1e9:.0f}"
        for name, configuration in plan.configurations.items()
        if (cost := step_multiplications(plan, configuration)) > STEP_BUDGET
    )


def shallow_networks(plan: Plan) -> tuple[str, ...]:
    """A remark per configuration whose patch is so small that its network sees hardly anything at a lower resolution.

    It names what would leave room for a larger one.
    """
    remarks = []
    for name, configuration in plan.configurations.items():
        image = tuple(map(round, configuration.median_shape))
        choice, stages = choice_of(configuration.topology), configuration.topology.stages
        possible = choice.topology(configuration.spacing_mm, image)[0].stages
        if stages <= SHALLOW < possible:
            remarks.append(
                f"{name}: with its patch of {voxels(configuration.patch_size)} voxels the network has {stages} "
                f"resolutions, where images of {voxels(image)} allow {possible}: it sees little around a voxel; a "
                f"larger patch may fit if you {', or '.join(_ways_to_larger(plan, configuration))}"
            )
    return tuple(remarks)


def _ways_to_larger(plan: Plan, configuration: Configuration) -> list[str]:
    """What makes a step of the same patch cheaper on the plan's device, and another device."""
    measure = step_multiplications if plan.device == "cpu" else step_gib

    def cost(choice: NetworkChoice) -> float:
        channels = input_channels(plan, configuration)
        topology, patch = choice.topology(configuration.spacing_mm, configuration.patch_size, channels=channels)
        return measure(plan, replace(configuration, topology=topology, patch_size=patch))

    ways = ways_out(choice_of(configuration.topology), cost)
    return [*ways, "plan for a GPU (--gpu-memory GB)" if plan.device == "cpu" else "allow more memory (--gpu-memory)"]

"""Choose patch, batch and width so that a training step is worth taking on a CPU.

A plan made for a GPU takes many seconds per step on a CPU; this one bounds the multiplications of a step instead of its
memory. Numbers in, numbers out, no torch. Measured on two cores (docs/decisions/cpu-training.md): a hippocampus step of
29 billion takes 0.14 s in bfloat16, 0.22 s in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nnlite.errors import PlanError
from nnlite.planning.counts import multiply_adds
from nnlite.planning.network import NetworkChoice, ways_out
from nnlite.planning.patch import (
    PatchFit,
    first_patch,
    longest_axis,
    padded_axes,
    patch_reason,
    pooling_reason,
    require_pooling,
    shrink,
)
from nnlite.planning.spacing import voxels
from nnlite.planning.topology import Topology

STEP_BUDGET = 30e9  # multiplications per training step: a fraction of a second on two cores, thousands of steps an hour
PASSES = 3  # forward, gradient of the input, gradient of the weights: each costs about the same
BATCHES = {2: (4, 8), 3: (2, 2)}  # smallest and largest batch by number of axes: slices are small and much alike
WIDE, NARROW = (16, 256), (8, 128)  # features at full resolution, and at most
WIDE_IF_EDGE = {2: 128, 3: 32}  # 16 features need a patch of this edge, or half the image: context beats width
EPOCHS, ITERATIONS = 100, 50  # a first result within the hour
SPARED_EDGE = 16  # voxels: an axis this short gives way last, or nothing would be left to pool


def passes(topology: Topology) -> int:
    """How often a training step computes what the network does; checkpointed, the forward pass is there twice."""
    return PASSES + topology.checkpointing


def fit_cpu(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    dataset_voxels: float,
    *,
    channels: int,
    labels: int,
    network: NetworkChoice,
) -> PatchFit:
    """The largest patch of which a small batch stays within ``STEP_BUDGET``, with 16 features if it is not too small.

    ``labels`` counts the background. ``dataset_voxels`` plays no part: batches this small hold little of any dataset.
    PlanError if not even the smallest patch stays within it.
    """
    fit = partial(_fit_width, spacing_mm, median_shape, channels=channels, labels=labels, network=network)
    try:
        fitted = fit(*WIDE)
    except PlanError:
        return fit(*NARROW)
    return fitted if _large_enough(fitted.patch_size, median_shape) else fit(*NARROW)


def _large_enough(patch_size: Sequence[int], median_shape: Sequence[float]) -> bool:
    edge = WIDE_IF_EDGE[len(patch_size)]
    return all(size >= min(edge, whole / 2) for size, whole in zip(patch_size, median_shape, strict=True))


def _fit_width(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    features: int,
    most_features: int,
    *,
    channels: int,
    labels: int,
    network: NetworkChoice,
) -> PatchFit:
    smallest_batch, largest_batch = BATCHES[len(spacing_mm)]
    made = partial(NetworkChoice.topology, channels=channels, base_features=features, max_features=most_features)
    plan = partial(made, network, spacing_mm)
    first = first_patch(spacing_mm, median_shape)
    topology, patch = plan(first)

    def cost_of(choice: NetworkChoice) -> float:
        its, size = made(choice, spacing_mm, patch)
        return passes(its) * multiply_adds(its, size, channels=channels, labels=labels)

    steps, refusal = 0, None
    while True:
        cost = passes(topology) * multiply_adds(topology, patch, channels=channels, labels=labels)
        too_long = padded_axes(patch, median_shape)
        if not too_long and cost * smallest_batch <= STEP_BUDGET:
            break
        axis = too_long[0] if too_long else longest_axis(patch, median_shape, spared_edge=SPARED_EDGE)
        try:
            smaller, shorter = plan(shrink(patch, topology, axis, spacing_mm))
        except PlanError:
            raise refusal or _too_costly(network, patch, cost_of) from None
        if not too_long and smaller.stages < 2 <= topology.stages:
            refusal = _too_costly(network, patch, cost_of)
        topology, patch = smaller, shorter
        steps += 1
    if refusal is not None and topology.stages < 2:
        raise refusal
    require_pooling(topology, patch, spacing_mm)
    batch = max(smallest_batch, min(largest_batch, int(STEP_BUDGET / cost)))
    return PatchFit(
        patch_size=patch,
        batch_size=batch,
        topology=topology,
        epochs=EPOCHS,
        iterations=ITERATIONS,
        reasons={
            "patch_size": f"{patch_reason(patch, first, median_shape, steps)}: training on a sample takes "
            f"{cost / 1e9:.3g} billion multiplications, a step over {smallest_batch} of them may take "
            f"{STEP_BUDGET / 1e9:.0f} billion on a CPU",
            "batch_size": f"{batch}: what {STEP_BUDGET / 1e9:.0f} billion multiplications allow, at least "
            f"{smallest_batch} and at most {largest_batch} on a CPU; a step takes {batch * cost / 1e9:.3g} billion",
            "topology": f"{pooling_reason(topology)}: fewer than a GPU's plan, which starts from 32, so that a step is "
            "worth taking on a CPU",
            "epochs": f"{EPOCHS}: a training of minutes to hours; for another length give --epochs or --time-budget",
            "iterations": f"{ITERATIONS} steps per epoch: seconds, so that progress shows and little is lost",
        },
    )


def _too_costly(network: NetworkChoice, patch: Sequence[int], cost_of: Callable[[NetworkChoice], float]) -> PlanError:
    """The error for a network that multiplies too much with even the smallest patch."""
    ways = [*ways_out(network, cost_of), "plan for a GPU (--gpu-memory GB)"]
    batch = BATCHES[len(patch)][0]
    return PlanError(
        f"{network.architecture} takes too many multiplications for a CPU: a step over {batch} samples of "
        f"{voxels(patch)} voxels takes {batch * cost_of(network) / 1e9:.3g} billion, and a CPU's plan allows "
        f"{STEP_BUDGET / 1e9:.3g}; {', or '.join(ways)}"
    )

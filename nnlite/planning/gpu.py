"""Choose patch, batch and length of a training for a GPU, by the bytes that a step really takes.

Numbers in, numbers out, no torch. The course is nnU-Net's (Isensee et al., Nature Methods 18, 203-211, 2021): the
largest patch of which two samples fit, then the batch that fills the memory. Bytes come from ``memory.py``, corrected
by what a probe has measured where there is a GPU. Departures are justified in docs/decisions/gpu-plan.md.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from nnlite.errors import PlanError
from nnlite.planning.memory import Precision, least_step_memory, step_memory
from nnlite.planning.network import NetworkChoice, ways_out
from nnlite.planning.nnunet import EPOCHS, ITERATIONS, REFERENCE_BATCH
from nnlite.planning.patch import (
    SMALLEST_BATCH,
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

SMALLEST_MEMORY_GIB = 1.0  # weights, their gradients and momentum, and CUDA itself take nearly as much
CONTEXT_GIB = 0.5  # what CUDA and its libraries take of a GPU before the first tensor
TENSOR_SHARE = 0.9  # of the rest: batches that wait take 2 to 4 %, and the allocator's blocks leave gaps
PRECISION: Precision = "bf16"  # of arithmetic on a GPU; fp16 takes as much
DATASET_SHARE = 0.05  # the part of all voxels that a batch may hold, as in nnU-Net's plain planner
# The learning rate is that of the reference batch. At four times that batch the gradient's noise has halved; every
# further doubling doubles the cost of a step and takes off 30 %.
LARGEST_BATCH = {axes: 4 * batch for axes, batch in REFERENCE_BATCH.items()}
# Published on hippocampus (260 cases): 111 epochs, in which every voxel is seen about 1400 times, end where 1000 do.
TIMES_SEEN = 1400
LEAST_EPOCHS = 100


def usable_gib(memory_gib: float) -> float:
    """What tensors may take of a GPU's memory at their peak.

    >>> round(usable_gib(8.0), 2)
    6.75
    """
    return (memory_gib - CONTEXT_GIB) * TENSOR_SHARE


def fit_gpu(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    dataset_voxels: float,
    *,
    channels: int,
    labels: int,
    network: NetworkChoice,
    memory_gib: float,
    corrections: Mapping[int, float],
) -> PatchFit:
    """The largest patch of which two samples fit into ``memory_gib``, and the batch that then fills it.

    ``labels`` counts the background; ``dataset_voxels`` is the number of voxels of all training cases together.
    ``corrections``, by number of axes, is measured over predicted memory where a probe has measured it.
    """
    ndim = len(spacing_mm)
    correction, usable = corrections.get(ndim, 1.0), usable_gib(memory_gib)

    @cache
    def needed(topology: Topology, patch: tuple[int, ...], batch: int) -> float:
        return correction * step_gib(topology, patch, batch, channels=channels, labels=labels)

    def fits(topology: Topology, patch: tuple[int, ...]) -> bool:
        least = least_step_memory(
            topology, patch, SMALLEST_BATCH, channels=channels, labels=labels, precision=PRECISION
        )
        return correction * least / 2**30 <= usable and needed(topology, patch, SMALLEST_BATCH) <= usable

    first = first_patch(spacing_mm, median_shape)
    topology, patch = network.topology(spacing_mm, first, channels=channels)

    def needed_by(choice: NetworkChoice) -> float:
        return needed(*choice.topology(spacing_mm, patch, channels=channels), SMALLEST_BATCH)

    steps = 0
    while True:
        too_long = padded_axes(patch, median_shape)
        if not too_long and fits(topology, patch):
            break
        axis = too_long[0] if too_long else longest_axis(patch, median_shape)
        try:
            shrunk = shrink(patch, topology, axis, spacing_mm)
            smaller, shorter = network.topology(spacing_mm, shrunk, channels=channels)
        except PlanError:
            raise _too_large(network, patch, memory_gib, usable, needed_by) from None
        if not too_long and smaller.stages < 2 <= topology.stages:
            raise _too_large(network, patch, memory_gib, usable, needed_by)
        topology, patch = smaller, shorter
        steps += 1
    require_pooling(topology, patch, spacing_mm)
    allowed = int(dataset_voxels * DATASET_SHARE / math.prod(patch))
    most = max(SMALLEST_BATCH, min(allowed, LARGEST_BATCH[ndim]))
    more = range(SMALLEST_BATCH + 1, most + 1)
    batch = SMALLEST_BATCH + bisect_right(more, usable, key=partial(needed, topology, patch))
    epochs, why_epochs = _epochs(dataset_voxels, batch * math.prod(patch))
    measured = "" if correction == 1 else f", corrected by a factor of {correction:.2f} that was measured"
    return PatchFit(
        patch_size=patch,
        batch_size=batch,
        topology=topology,
        epochs=epochs,
        iterations=ITERATIONS,
        reasons={
            "patch_size": f"{patch_reason(patch, first, median_shape, steps)}: a step over {SMALLEST_BATCH} samples "
            f"takes {needed(topology, patch, SMALLEST_BATCH):.2f} GiB{measured}; of {memory_gib:g} GiB, "
            f"{usable:.2f} are for tensors",
            "batch_size": f"{batch}: takes {needed(topology, patch, batch):.2f} of {usable:.2f} GiB; at most "
            f"{DATASET_SHARE:.0%} of the dataset's voxels, {allowed} samples, and {LARGEST_BATCH[ndim]}, four times "
            f"the batch that the learning rate was made for; never fewer than {SMALLEST_BATCH}",
            "topology": pooling_reason(topology),
            "epochs": why_epochs,
            "iterations": f"{ITERATIONS} steps per epoch",
        },
    )


def _too_large(
    network: NetworkChoice,
    patch: Sequence[int],
    memory_gib: float,
    usable: float,
    needed_by: Callable[[NetworkChoice], float],
) -> PlanError:
    """The error for a network of which not even the smallest patch fits."""
    ways = ["allow more memory (--gpu-memory)", *ways_out(network, needed_by)]
    return PlanError(
        f"{network.architecture} does not fit into {memory_gib:g} GiB: a step over {SMALLEST_BATCH} samples of "
        f"{voxels(patch)} voxels needs {needed_by(network):.2f} GiB, and {usable:.2f} are for tensors; "
        f"{', or '.join(ways)}"
    )


def _epochs(dataset_voxels: float, batch_voxels: int) -> tuple[int, str]:
    """How long to train, and why: small datasets are learnt sooner."""
    wanted = math.ceil(TIMES_SEEN * dataset_voxels / (ITERATIONS * batch_voxels))
    epochs = min(max(wanted, LEAST_EPOCHS), EPOCHS)
    return epochs, (
        f"{epochs}: in {wanted} epochs each voxel of the dataset would be seen {TIMES_SEEN} times; at least "
        f"{LEAST_EPOCHS}, at most {EPOCHS}"
    )


def step_gib(topology: Topology, patch_size: Sequence[int], batch_size: int, *, channels: int, labels: int) -> float:
    """Peak memory in GiB of a training step on a GPU: 16-bit arithmetic, SGD with momentum."""
    memory = step_memory(
        topology, patch_size, batch_size, channels=channels, labels=labels, precision=PRECISION, device="cuda"
    )
    return memory.peak / 2**30


def require_memory(memory_gib: float) -> None:
    """PlanError for memory in which no training fits."""
    if not SMALLEST_MEMORY_GIB <= memory_gib < math.inf:
        raise PlanError(
            f"{memory_gib:g} GiB of GPU memory cannot be planned for, training needs at least "
            f"{SMALLEST_MEMORY_GIB:g} GiB; give more with --gpu-memory, or plan with --device cpu"
        )

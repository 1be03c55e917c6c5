"""Preset "nnunet": patch, batch and network exactly as nnU-Net's planners choose them for a GPU.

Numbers in, numbers out, no torch. Memory is estimated by the values that the network's convolutions put out, compared
with reference values of known need (Isensee et al., Nature Methods 18, 203-211, 2021; residual encoders: Isensee et
al., MICCAI 2024). What nnlite itself does is in ``gpu.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nnlite.planning.counts import output_elements
from nnlite.planning.patch import (
    SMALLEST_BATCH,
    PatchFit,
    first_patch,
    longest_axis,
    patch_reason,
    pooling_reason,
    require_pooling,
    shrink,
)
from nnlite.planning.topology import Architecture, Topology, plan_topology

Planner = Literal["plain", "residual-M", "residual-L", "residual-XL"]

REFERENCE_BATCH = {2: 12, 3: 2}  # the batch that the reference values stand for, by number of axes
EPOCHS, ITERATIONS = 1000, 250  # of every training, whatever the dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReference:
    """How many output values per step one of nnU-Net's planners knows to fit ``memory_gib``, and its network.

    ``elements`` is by number of axes. ``dataset_share`` is the largest part of all the dataset's voxels that a batch
    may hold. ``fits_two``: the patch shrinks until two samples fit, else until the reference value holds for one.
    """

    architecture: Architecture
    elements: Mapping[int, float]
    memory_gib: float
    dataset_share: float
    fits_two: bool


MEMORY_REFERENCES: dict[Planner, MemoryReference] = {
    "plain": MemoryReference(
        architecture="unet", elements={3: 560e6, 2: 85e6}, memory_gib=8, dataset_share=0.05, fits_two=True
    ),
    "residual-M": MemoryReference(
        architecture="resenc", elements={3: 680e6, 2: 135e6}, memory_gib=8, dataset_share=1.0, fits_two=False
    ),
    "residual-L": MemoryReference(
        architecture="resenc", elements={3: 2100e6, 2: 380e6}, memory_gib=24, dataset_share=1.0, fits_two=False
    ),
    "residual-XL": MemoryReference(
        architecture="resenc", elements={3: 3600e6, 2: 560e6}, memory_gib=40, dataset_share=1.0, fits_two=False
    ),
}


def fit_nnunet(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    dataset_voxels: float,
    *,
    channels: int,
    labels: int,
    planner: Planner,
    memory_gib: float,
) -> PatchFit:
    """The largest patch of which the reference batch fits into ``memory_gib``, and the batch that then fills it.

    ``labels`` counts the background; ``dataset_voxels`` is the number of voxels of all training cases together.
    ``channels`` play no part: the estimate does not know them.
    """
    ndim, reference = len(spacing_mm), MEMORY_REFERENCES[planner]
    values = reference.elements[ndim] * memory_gib / reference.memory_gib
    largest = values * REFERENCE_BATCH[ndim] / 2 if reference.fits_two else values
    first = first_patch(spacing_mm, median_shape)
    topology, patch = plan_topology(spacing_mm, first, architecture=reference.architecture)
    steps = 0
    while (elements := output_elements(topology, patch, labels=labels)) > largest:
        smaller = shrink(patch, topology, longest_axis(patch, median_shape), spacing_mm)
        topology, patch = plan_topology(spacing_mm, smaller, architecture=reference.architecture)
        steps += 1
    require_pooling(topology, patch, spacing_mm)
    samples = round(values / elements * REFERENCE_BATCH[ndim])
    allowed = round(dataset_voxels / math.prod(patch) * reference.dataset_share)
    batch = max(SMALLEST_BATCH, min(samples, allowed))
    return PatchFit(
        patch_size=patch,
        batch_size=batch,
        topology=topology,
        epochs=EPOCHS,
        iterations=ITERATIONS,
        reasons={
            "patch_size": f"{patch_reason(patch, first, median_shape, steps)}: the network puts out "
            f"{elements / 1e6:.1f} million values per sample, {memory_gib:g} GiB allow {largest / 1e6:.0f} million",
            "batch_size": f"{batch}: {memory_gib:g} GiB hold {samples} samples; the most a batch may hold, "
            f"{reference.dataset_share:.0%} of the dataset's voxels, are {allowed}; never fewer than {SMALLEST_BATCH}",
            "topology": pooling_reason(topology),
            "epochs": f"{EPOCHS}: as nnU-Net trains, whatever the dataset",
            "iterations": f"{ITERATIONS} steps per epoch, as nnU-Net trains",
        },
    )


def estimated_gib(
    topology: Topology, patch_size: Sequence[int], batch_size: int, *, labels: int, planner: Planner
) -> float:
    """Memory of a training step in GiB by nnU-Net's rule: values put out, in proportion to those of known need.

    It knows nothing of weights, input channels or kernel sizes. ``labels`` counts the background.

    >>> topology, patch = plan_topology((1.0, 1.0, 1.0), (40, 56, 40))
    >>> round(estimated_gib(topology, patch, 7, labels=3, planner="plain"), 2)  # 7 x 19.2 of 2 x 560 million, x 8 GiB
    0.96
    """
    reference, ndim = MEMORY_REFERENCES[planner], topology.ndim
    values = batch_size * output_elements(topology, patch_size, labels=labels)
    return values / (reference.elements[ndim] * REFERENCE_BATCH[ndim]) * reference.memory_gib

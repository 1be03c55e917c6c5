"""Choose patch, batch and network so that training fits the memory of a GPU.

Numbers in, numbers out, no torch. Memory is estimated by the values that the network's convolutions put out, compared
with reference values of known need: those of nnU-Net's planners (Isensee et al., Nature Methods 18, 203-211, 2021;
residual encoders: Isensee et al., MICCAI 2024). Preset "nnunet" gives their very plans; preset "nnlite" departs where
docs/decisions/gpu-plan.md says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nnlite.errors import PlanError
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
from nnlite.planning.topology import Encoder, Topology, output_elements, plan_topology

Preset = Literal["nnlite", "nnunet"]
Planner = Literal["plain", "residual-M", "residual-L", "residual-XL"]

REFERENCE_BATCH = {2: 12, 3: 2}  # the batch that the reference values stand for, by number of axes
SMALLEST_MEMORY_GIB = 1.0  # weights, their gradients and momentum, and CUDA itself take nearly as much
DATASET_SHARE = 0.05  # preset nnlite: the part of all voxels that a batch may hold, whatever the network
# Preset nnlite: the learning rate is that of the reference batch. At four times that batch the gradient's noise has
# halved; every further doubling doubles the cost of a step and takes off 30 %.
LARGEST_BATCH = {axes: 4 * batch for axes, batch in REFERENCE_BATCH.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReference:
    """How many output values per step one of nnU-Net's planners knows to fit ``memory_gib``, and its encoder.

    ``elements`` is by number of axes. ``dataset_share`` is the largest part of all the dataset's voxels that a batch
    may hold. ``fits_two``: the patch shrinks until two samples fit, else until the reference value holds for one.
    """

    encoder: Encoder
    elements: Mapping[int, float]
    memory_gib: float
    dataset_share: float
    fits_two: bool


MEMORY_REFERENCES: dict[Planner, MemoryReference] = {
    "plain": MemoryReference(
        encoder="plain", elements={3: 560e6, 2: 85e6}, memory_gib=8, dataset_share=0.05, fits_two=True
    ),
    "residual-M": MemoryReference(
        encoder="residual", elements={3: 680e6, 2: 135e6}, memory_gib=8, dataset_share=1.0, fits_two=False
    ),
    "residual-L": MemoryReference(
        encoder="residual", elements={3: 2100e6, 2: 380e6}, memory_gib=24, dataset_share=1.0, fits_two=False
    ),
    "residual-XL": MemoryReference(
        encoder="residual", elements={3: 3600e6, 2: 560e6}, memory_gib=40, dataset_share=1.0, fits_two=False
    ),
}


def fit_memory(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    dataset_voxels: float,
    *,
    labels: int,
    planner: Planner,
    memory_gib: float,
    preset: Preset,
) -> PatchFit:
    """The largest patch of which a batch fits into ``memory_gib``, and the batch that then fills it.

    ``labels`` counts the background; ``dataset_voxels`` is the number of voxels of all training cases together.
    ``preset`` "nnlite" also shortens a patch that is padded far beyond the image.
    """
    ndim, reference = len(spacing_mm), MEMORY_REFERENCES[planner]
    values = reference.elements[ndim] * memory_gib / reference.memory_gib
    largest = values * REFERENCE_BATCH[ndim] / 2 if reference.fits_two else values
    first = first_patch(spacing_mm, median_shape)
    topology, patch = plan_topology(spacing_mm, first, encoder=reference.encoder)
    steps = 0
    while True:
        elements = output_elements(topology, patch, labels=labels)
        too_long = padded_axes(patch, median_shape) if preset == "nnlite" else []
        if not too_long and elements <= largest:
            break
        axis = too_long[0] if too_long else longest_axis(patch, median_shape)
        topology, patch = plan_topology(
            spacing_mm, shrink(patch, topology, axis, spacing_mm), encoder=reference.encoder
        )
        steps += 1
    require_pooling(topology, patch, spacing_mm)
    batch_size, batch_reason = _batch(
        values / elements * REFERENCE_BATCH[ndim], dataset_voxels / math.prod(patch), memory_gib, ndim, planner, preset
    )
    return PatchFit(
        patch_size=patch,
        batch_size=batch_size,
        topology=topology,
        reasons={
            "patch_size": f"{patch_reason(patch, first, median_shape, steps)}: the network puts out "
            f"{elements / 1e6:.1f} million values per sample, {memory_gib:g} GiB allow {largest / 1e6:.0f} million",
            "batch_size": batch_reason,
            "topology": pooling_reason(topology),
        },
    )


def _batch(
    fitting: float, dataset_patches: float, memory_gib: float, ndim: int, planner: Planner, preset: Preset
) -> tuple[int, str]:
    """Samples per step, and why. ``fitting`` samples fill the memory, ``dataset_patches`` patches the whole dataset."""
    share = DATASET_SHARE if preset == "nnlite" else MEMORY_REFERENCES[planner].dataset_share
    # nnU-Net rounds to the nearest, which may ask for more than there is.
    samples, allowed = (
        int(number) if preset == "nnlite" else round(number) for number in (fitting, dataset_patches * share)
    )
    batch, largest = min(samples, allowed), ""
    if preset == "nnlite":
        batch = min(batch, LARGEST_BATCH[ndim])
        largest = f"; never more than {LARGEST_BATCH[ndim]}, four times the batch that the learning rate was made for"
    batch = max(SMALLEST_BATCH, batch)
    return batch, (
        f"{batch}: {memory_gib:g} GiB hold {samples} samples; the most a batch may hold, {share:.0%} of the dataset's "
        f"voxels, are {allowed}{largest}; never fewer than {SMALLEST_BATCH}"
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


def require_memory(memory_gib: float) -> None:
    """PlanError for memory in which no training fits."""
    if not SMALLEST_MEMORY_GIB <= memory_gib < math.inf:
        raise PlanError(
            f"{memory_gib:g} GiB of GPU memory cannot be planned for, training needs at least "
            f"{SMALLEST_MEMORY_GIB:g} GiB; give more with --gpu-memory, or plan with --device cpu"
        )

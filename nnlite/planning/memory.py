"""Choose patch, batch and network so that training fits the memory of a GPU.

Numbers in, numbers out, no torch. Memory is estimated by the values that the network's convolutions put out, compared
with reference values of known need: nnU-Net's presets (Isensee et al., Nature Methods 18, 203-211, 2021; residual
encoders: Isensee et al., MICCAI 2024).
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
    patch_reason,
    pooling_reason,
    require_pooling,
    shrink,
)
from nnlite.planning.topology import Encoder, output_elements, plan_topology

Planner = Literal["plain", "residual-M", "residual-L", "residual-XL"]

REFERENCE_BATCH = {2: 12, 3: 2}  # the batch that the reference values stand for, by number of axes
SMALLEST_MEMORY_GIB = 1.0  # weights, their gradients and momentum, and CUDA itself take nearly as much


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A planner: its encoder, and how many output values per step are known to fit ``memory_gib``.

    ``elements`` is by number of axes. ``dataset_share`` is the largest part of all the dataset's voxels that a batch
    may hold. ``fits_two``: the patch shrinks until two samples fit, else until the reference value holds for one.
    """

    encoder: Encoder
    elements: Mapping[int, float]
    memory_gib: float
    dataset_share: float
    fits_two: bool


PRESETS: dict[Planner, Preset] = {
    "plain": Preset(encoder="plain", elements={3: 560e6, 2: 85e6}, memory_gib=8, dataset_share=0.05, fits_two=True),
    "residual-M": Preset(
        encoder="residual", elements={3: 680e6, 2: 135e6}, memory_gib=8, dataset_share=1.0, fits_two=False
    ),
    "residual-L": Preset(
        encoder="residual", elements={3: 2100e6, 2: 380e6}, memory_gib=24, dataset_share=1.0, fits_two=False
    ),
    "residual-XL": Preset(
        encoder="residual", elements={3: 3600e6, 2: 560e6}, memory_gib=40, dataset_share=1.0, fits_two=False
    ),
}


def fit_memory(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    dataset_voxels: float,
    *,
    labels: int,
    preset: Preset,
    memory_gib: float,
) -> PatchFit:
    """The largest patch of which a batch fits into ``memory_gib``, and the batch that then fills it.

    ``labels`` counts the background; ``dataset_voxels`` is the number of voxels of all training cases together.
    """
    ndim = len(spacing_mm)
    reference, batch = preset.elements[ndim] * memory_gib / preset.memory_gib, REFERENCE_BATCH[ndim]
    largest = reference * batch / 2 if preset.fits_two else reference
    first = first_patch(spacing_mm, median_shape)
    topology, patch = plan_topology(spacing_mm, first, encoder=preset.encoder)
    steps = 0
    while (elements := output_elements(topology, patch, labels=labels)) > largest:
        smaller = shrink(patch, topology, longest_axis(patch, median_shape), spacing_mm)
        topology, patch = plan_topology(spacing_mm, smaller, encoder=preset.encoder)
        steps += 1
    require_pooling(topology, patch, spacing_mm)
    fitting = round(reference / elements * batch)
    allowed = round(dataset_voxels * preset.dataset_share / math.prod(patch))
    batch_size = max(SMALLEST_BATCH, min(fitting, allowed))
    return PatchFit(
        patch_size=patch,
        batch_size=batch_size,
        topology=topology,
        reasons={
            "patch_size": f"{patch_reason(patch, first, median_shape, steps)}: the network puts out "
            f"{elements / 1e6:.1f} million values per sample, {memory_gib:g} GiB allow {largest / 1e6:.0f} million",
            "batch_size": f"{batch_size}: {memory_gib:g} GiB hold {fitting} samples; the most a batch may hold, "
            f"{preset.dataset_share:.0%} of the dataset's voxels, are {allowed}; never fewer than {SMALLEST_BATCH}",
            "topology": pooling_reason(topology),
        },
    )


def require_memory(memory_gib: float) -> None:
    """PlanError for memory in which no training fits."""
    if not SMALLEST_MEMORY_GIB <= memory_gib < math.inf:
        raise PlanError(
            f"{memory_gib:g} GiB of GPU memory cannot be planned for, training needs at least "
            f"{SMALLEST_MEMORY_GIB:g} GiB; give more with --gpu-memory, or plan with --device cpu"
        )

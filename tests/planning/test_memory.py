from __future__ import annotations

import math

import pytest

from nnlite.errors import PlanError
from nnlite.planning.memory import PRESETS, fit_memory, require_memory
from nnlite.planning.patch import PatchFit
from nnlite.planning.topology import output_elements

SPACING, MEDIAN = (1.0, 1.0, 1.0), (200.0, 200.0, 200.0)
PLENTY = 1e12  # voxels: no batch is bounded by the dataset


def fit(planner="plain", memory_gib: float = 8, dataset_voxels: float = PLENTY) -> PatchFit:
    preset = PRESETS[planner]
    return fit_memory(SPACING, MEDIAN, dataset_voxels, labels=3, preset=preset, memory_gib=memory_gib)


@pytest.mark.parametrize("planner", PRESETS)
def test_two_samples_of_the_patch_fit_the_reference_of_the_planner(planner) -> None:
    preset = PRESETS[planner]
    fitted = fit(planner, preset.memory_gib)
    assert output_elements(fitted.topology, fitted.patch_size, labels=3) <= preset.elements[3]
    assert fitted.topology.encoder == preset.encoder


def test_more_memory_never_shrinks_patch_or_batch() -> None:
    volumes = [
        math.prod(fitted.patch_size) * fitted.batch_size for fitted in (fit(memory_gib=gib) for gib in (2, 4, 8, 80))
    ]
    assert volumes == sorted(volumes)
    assert volumes[0] < volumes[-1]


def test_memory_that_is_left_goes_into_the_batch_but_not_beyond_its_share_of_the_dataset() -> None:
    roomy = fit(memory_gib=800)
    assert roomy.batch_size > 2
    patch_voxels = math.prod(roomy.patch_size)
    assert fit(memory_gib=800, dataset_voxels=100 * patch_voxels).batch_size == 5  # 5 %
    assert fit(memory_gib=800, dataset_voxels=patch_voxels).batch_size == 2  # never fewer


def test_the_reasons_hold_the_numbers() -> None:
    fitted = fit()
    assert "8 GiB allow 560 million" in fitted.reasons["patch_size"]
    assert fitted.reasons["batch_size"].startswith(f"{fitted.batch_size}: ")


@pytest.mark.parametrize("memory_gib", [0, -8, 0.5, float("nan"), float("inf")])
def test_memory_in_which_nothing_fits_is_refused_with_a_way_out(memory_gib: float) -> None:
    with pytest.raises(PlanError, match=r"GiB of GPU memory cannot be planned for.*--gpu-memory"):
        require_memory(memory_gib)

from __future__ import annotations

import math

import pytest

from nnlite.planning.counts import output_elements
from nnlite.planning.nnunet import EPOCHS, ITERATIONS, MEMORY_REFERENCES, estimated_gib, fit_nnunet
from nnlite.planning.patch import PatchFit

SPACING, MEDIAN = (1.0, 1.0, 1.0), (200.0, 200.0, 200.0)
PLENTY = 1e12  # voxels: no batch is bounded by the dataset


def fit(planner="plain", memory_gib: float = 8, dataset_voxels: float = PLENTY) -> PatchFit:
    return fit_nnunet(SPACING, MEDIAN, dataset_voxels, channels=1, labels=3, planner=planner, memory_gib=memory_gib)


@pytest.mark.parametrize("planner", MEMORY_REFERENCES)
def test_two_samples_of_the_patch_fit_the_reference_of_the_planner(planner) -> None:
    reference = MEMORY_REFERENCES[planner]
    fitted = fit(planner, reference.memory_gib)
    assert output_elements(fitted.topology, fitted.patch_size, labels=3) <= reference.elements[3]
    assert fitted.topology.architecture == reference.architecture
    assert (fitted.epochs, fitted.iterations) == (EPOCHS, ITERATIONS)


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


def test_the_estimate_of_a_plan_is_near_the_memory_it_was_made_for() -> None:
    fitted = fit()
    estimate = estimated_gib(fitted.topology, fitted.patch_size, fitted.batch_size, labels=3, planner="plain")
    assert 4 < estimate <= 8  # two samples: nothing was rounded up


def test_a_patch_may_be_padded_far_beyond_the_image() -> None:
    fitted = fit_nnunet((1.0, 1.0), (513.0, 513.0), PLENTY, channels=1, labels=3, planner="plain", memory_gib=8)
    assert fitted.patch_size == (640, 640)  # 513 is halved 7 times down to 5, and 5 x 128 = 640

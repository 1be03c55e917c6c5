from __future__ import annotations

import math

import pytest

from nnlite.errors import PlanError
from nnlite.planning.gpu import MEMORY_REFERENCES, estimated_gib, fit_memory, require_memory
from nnlite.planning.patch import PatchFit
from nnlite.planning.topology import output_elements

SPACING, MEDIAN = (1.0, 1.0, 1.0), (200.0, 200.0, 200.0)
PLENTY = 1e12  # voxels: no batch is bounded by the dataset


def fit(planner="plain", memory_gib: float = 8, dataset_voxels: float = PLENTY, preset="nnunet") -> PatchFit:
    return fit_memory(SPACING, MEDIAN, dataset_voxels, labels=3, planner=planner, memory_gib=memory_gib, preset=preset)


@pytest.mark.parametrize("planner", MEMORY_REFERENCES)
def test_two_samples_of_the_patch_fit_the_reference_of_the_planner(planner) -> None:
    reference = MEMORY_REFERENCES[planner]
    fitted = fit(planner, reference.memory_gib)
    assert output_elements(fitted.topology, fitted.patch_size, labels=3) <= reference.elements[3]
    assert fitted.topology.encoder == reference.encoder


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


def test_preset_nnlite_shortens_a_patch_that_is_padded_far_beyond_the_image() -> None:
    def patch(preset) -> tuple[int, ...]:
        return fit_memory(
            (1.0, 1.0), (513.0, 513.0), PLENTY, labels=3, planner="plain", memory_gib=8, preset=preset
        ).patch_size

    assert patch("nnunet") == (640, 640)  # 513 is halved 7 times down to 5, and 5 x 128 = 640
    assert patch("nnlite") == (512, 512)  # 640 is 1.25 x 513, more than 1.2


@pytest.mark.parametrize("planner", MEMORY_REFERENCES)
def test_preset_nnlite_holds_at_most_a_twentieth_of_the_dataset_and_four_reference_batches(planner) -> None:
    roomy = fit(planner, 800, preset="nnlite")
    assert roomy.batch_size == 4 * 2  # the reference batch in 3D is 2
    patch_voxels = math.prod(roomy.patch_size)
    assert fit(planner, 800, dataset_voxels=100 * patch_voxels, preset="nnlite").batch_size == 5


def test_preset_nnlite_never_rounds_a_batch_up() -> None:
    for memory_gib in (1.0, 1.7, 2.3, 3.1):
        fitted = fit_memory(
            (1.0, 1.0), (200.0, 200.0), PLENTY, labels=3, planner="plain", memory_gib=memory_gib, preset="nnlite"
        )
        options = {"labels": 3, "planner": "plain"}
        assert estimated_gib(fitted.topology, fitted.patch_size, fitted.batch_size, **options) <= memory_gib
        if fitted.batch_size < 48:
            assert estimated_gib(fitted.topology, fitted.patch_size, fitted.batch_size + 1, **options) > memory_gib

from __future__ import annotations

import math
import re

import pytest

from nnlite.errors import PlanError
from nnlite.planning.gpu import LEAST_EPOCHS, TIMES_SEEN, fit_gpu, require_memory, step_gib, usable_gib
from nnlite.planning.network import NetworkChoice, ways_out
from nnlite.planning.nnunet import EPOCHS
from nnlite.planning.patch import PatchFit

SPACING, MEDIAN = (1.0, 1.0, 1.0), (200.0, 200.0, 200.0)
PLENTY = 1e12  # voxels: no batch is bounded by the dataset


def fit(
    spacing_mm=SPACING,
    median_shape=MEDIAN,
    dataset_voxels: float = PLENTY,
    *,
    channels: int = 1,
    architecture="unet",
    kernel: int = 3,
    checkpointing: bool = False,
    fusion="early",
    memory_gib: float = 8,
    corrections=None,
) -> PatchFit:
    network = NetworkChoice(architecture=architecture, kernel=kernel, checkpointing=checkpointing, fusion=fusion)
    return fit_gpu(
        spacing_mm,
        median_shape,
        dataset_voxels,
        channels=channels,
        labels=3,
        network=network.of_channels(["MR"] * channels),
        memory_gib=memory_gib,
        corrections=corrections or {},
    )


def needed(fitted: PatchFit, batch_size: int, channels: int = 1) -> float:
    return step_gib(fitted.topology, fitted.patch_size, batch_size, channels=channels, labels=3)


@pytest.mark.parametrize("architecture", ["unet", "resenc", "vnet", "attention-unet"])
@pytest.mark.parametrize("memory_gib", [2.0, 4.0, 8.0, 24.0, 80.0])
def test_a_step_fits_and_a_larger_batch_would_not_unless_it_is_capped(architecture, memory_gib: float) -> None:
    fitted = fit(architecture=architecture, memory_gib=memory_gib)
    assert needed(fitted, fitted.batch_size) <= usable_gib(memory_gib)
    if fitted.batch_size < 4 * 2:  # four times the reference batch in 3D
        assert needed(fitted, fitted.batch_size + 1) > usable_gib(memory_gib)


def test_more_memory_never_shrinks_patch_or_batch() -> None:
    volumes = [
        math.prod(fitted.patch_size) * fitted.batch_size for fitted in (fit(memory_gib=gib) for gib in (2, 4, 8, 80))
    ]
    assert volumes == sorted(volumes)
    assert volumes[0] < volumes[-1]


def test_a_batch_holds_at_most_a_twentieth_of_the_dataset_and_four_reference_batches() -> None:
    roomy = fit(memory_gib=800)
    assert roomy.batch_size == 4 * 2
    patch_voxels = math.prod(roomy.patch_size)
    assert fit(memory_gib=800, dataset_voxels=100 * patch_voxels).batch_size == 5
    assert fit(memory_gib=800, dataset_voxels=patch_voxels).batch_size == 2  # never fewer


def test_what_was_measured_above_the_prediction_makes_the_plan_smaller_and_below_it_larger() -> None:
    def volume(**options) -> int:
        fitted = fit(**options)
        return math.prod(fitted.patch_size) * fitted.batch_size

    assert volume(corrections={3: 1.5}) < volume() < volume(corrections={3: 0.6})
    assert volume(corrections={2: 1.5}) == volume()  # measured on slices: it says nothing about volumes
    cautious = fit(corrections={3: 1.5})
    assert 1.5 * needed(cautious, cautious.batch_size) <= usable_gib(8)
    assert "corrected by a factor of 1.50 that was measured" in cautious.reasons["patch_size"]


def test_many_channels_take_their_memory() -> None:
    many = fit(channels=100)
    assert needed(many, many.batch_size, channels=100) <= usable_gib(8)
    assert math.prod(many.patch_size) < math.prod(fit().patch_size)


def test_a_patch_that_is_padded_far_beyond_the_image_is_shortened() -> None:
    assert fit((1.0, 1.0), (513.0, 513.0)).patch_size == (512, 512)  # 640, the next multiple of 128, is 1.25 x 513


def test_small_datasets_are_trained_for_fewer_epochs() -> None:
    def epochs(dataset_voxels: float) -> tuple[int, int]:
        fitted = fit(dataset_voxels=dataset_voxels)
        return fitted.epochs, fitted.iterations * fitted.batch_size * math.prod(fitted.patch_size)

    assert epochs(1e6)[0] == LEAST_EPOCHS
    assert epochs(PLENTY)[0] == EPOCHS
    middle, seen_per_epoch = epochs(2e8)
    assert LEAST_EPOCHS < middle < EPOCHS
    assert (middle - 1) * seen_per_epoch < TIMES_SEEN * 2e8 <= middle * seen_per_epoch


@pytest.mark.parametrize("memory_gib", [0, -8, 0.5, float("nan"), float("inf")])
def test_memory_in_which_nothing_fits_is_refused_with_a_way_out(memory_gib: float) -> None:
    with pytest.raises(PlanError, match=r"GiB of GPU memory cannot be planned for.*--gpu-memory"):
        require_memory(memory_gib)


def test_stages_that_are_computed_twice_leave_memory_for_a_larger_patch() -> None:
    once, twice = fit(), fit(checkpointing=True)
    assert math.prod(twice.patch_size) > 1.2 * math.prod(once.patch_size)
    assert twice.topology.checkpointing
    assert needed(twice, twice.batch_size) <= usable_gib(8)


def test_a_network_that_keeps_more_gets_a_smaller_patch() -> None:
    patches = [math.prod(fit(architecture=name).patch_size) for name in ("vnet", "resenc", "unet")]
    assert patches == sorted(patches)
    assert patches[0] < patches[-1]


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({}, ""),
        ({"architecture": "unet++"}, ""),  # of two stages it is the U-Net
        ({"architecture": "unet-2015"}, r", or take another network \(--architecture unet\)"),
        (
            {"architecture": "vnet", "kernel": 7, "checkpointing": True},
            r", or take kernels of 3 voxels, or take another network \(--architecture unet\)",
        ),
        ({"fusion": "separate", "channels": 2}, ", or leave out --fusion separate"),
    ],
)
def test_a_network_that_cannot_fit_is_refused_with_all_that_would_need_less(options: dict, ways: str) -> None:
    name = re.escape(options.get("architecture", "unet"))
    with pytest.raises(PlanError, match=rf"^{name} does not fit into 8 GiB: a step over 2 .*\(--gpu-memory\){ways}$"):
        fit(corrections={3: 1e5}, **options)


def test_computing_stages_twice_is_a_way_out_where_it_needs_less() -> None:
    def memory(choice: NetworkChoice) -> float:
        topology, patch = choice.topology((1.0, 1.0, 1.0), (64, 64, 64))
        return step_gib(topology, patch, 2, channels=1, labels=3)

    assert ways_out(NetworkChoice(), memory) == ["let stages be computed twice (--checkpointing)"]
    assert ways_out(NetworkChoice(checkpointing=True), memory) == []

"""Sizes and parameters of the published networks without padding, and patches that fit any of them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest

from nnlite.errors import PlanError
from nnlite.planning.counts import parameter_count
from nnlite.planning.cpu import fit_cpu
from nnlite.planning.gpu import fit_gpu
from nnlite.planning.network import NetworkChoice
from nnlite.planning.patch import require_pooling
from nnlite.planning.topology import Topology, plan_topology

SHAPES = {
    "isotropic volume": ((1.0, 1.0, 1.0), (16, 16, 16)),
    "thick slices": ((4.0, 1.0, 1.0), (8, 32, 32)),
    "slice": ((1.0, 1.0), (32, 16)),
}


def planned(shape: str) -> tuple[Topology, tuple[int, ...]]:
    spacing_mm, patch = SHAPES[shape]
    return plan_topology(spacing_mm, patch, architecture="unet-2015", base_features=4, max_features=16)


def test_the_published_network_answers_for_388_of_572_pixels_with_31_million_parameters() -> None:
    topology, patch = plan_topology((1.0, 1.0), (388, 388), architecture="unet-2015")
    assert topology.features == (64, 128, 256, 512, 1024)
    assert patch == (388, 388)
    assert topology.seen_size(patch) == (572, 572)
    assert parameter_count(topology, channels=1, labels=2) == 31_030_658


def test_the_published_3d_network_answers_for_44_x_44_x_28_of_132_x_132_x_116_voxels() -> None:
    strides = ((1, 1, 1), *((2, 2, 2),) * 3)
    topology, _ = plan_topology((1.0, 1.0, 1.0), (64, 64, 64), architecture="unet-2015")
    assert topology.strides == strides
    assert topology.fitting_size((44, 44, 28)) == (44, 44, 28)
    assert topology.seen_size((44, 44, 28)) == (132, 132, 116)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_max_pooling_gets_what_it_can_divide(shape: str) -> None:
    topology, patch = planned(shape)
    sizes = topology.seen_size(patch)
    for stage, (stride, kernel) in enumerate(zip(topology.strides, topology.kernels, strict=True)):
        assert all(size % step == 0 for size, step in zip(sizes, stride, strict=True)), f"stage {stage}"
        sizes = tuple(size // step - 2 * (width - 1) for size, step, width in zip(sizes, stride, kernel, strict=True))
    for stage in range(topology.stages - 2, -1, -1):
        stride, kernel = topology.strides[stage + 1], topology.kernels[stage]
        sizes = tuple(size * step - 2 * (width - 1) for size, step, width in zip(sizes, stride, kernel, strict=True))
    assert sizes == patch


@pytest.mark.parametrize("shape", SHAPES)
def test_the_next_size_is_the_smallest_that_fits_and_fits_itself(shape: str) -> None:
    topology, _ = planned(shape)
    for size in range(1, 70):
        fitting = topology.fitting_size((size,) * topology.ndim)
        assert topology.fitting_size(fitting) == fitting
        assert all(size <= one < size + step for one, step in zip(fitting, topology.divisor, strict=True))


@pytest.mark.parametrize("size", list(product((30, 53, 60, 120), (17, 64, 90))))
def test_a_planned_patch_is_planned_again_as_it_is(size: tuple[int, ...]) -> None:
    topology, patch = plan_topology((1.0, 1.0), size, architecture="unet-2015")
    assert plan_topology((1.0, 1.0), patch, architecture="unet-2015") == (topology, patch)
    assert all(one >= wanted for one, wanted in zip(patch, size, strict=True))


@pytest.mark.parametrize(
    ("spacing_mm", "median"),
    [
        ((1.0, 1.0, 1.0), (36, 50, 35)),
        ((5.0, 0.8, 0.8), (60, 500, 500)),
        ((2.5, 1.0, 0.7), (142, 136, 115)),
        ((1.0, 1.0), (512, 512)),
        ((1.0, 0.7), (87, 350)),
        ((1.0, 1.0, 1.0), (14, 200, 90)),
    ],
)
def test_planners_come_to_an_end_with_a_patch_that_fits(spacing_mm: tuple[float, ...], median: tuple[int, ...]) -> None:
    voxels = 100 * math.prod(median)
    options = {"channels": 1, "labels": 3, "network": NetworkChoice(architecture="unet-2015")}
    on_cpu = fit_cpu(spacing_mm, median, voxels, **options)
    on_gpu = fit_gpu(spacing_mm, median, voxels, memory_gib=8, corrections={}, **options)
    for fitted in (on_cpu, on_gpu):
        assert fitted.topology.fitting_size(fitted.patch_size) == fitted.patch_size
        assert "sees" in fitted.reasons["topology"]
    assert on_gpu.topology.features[0] == (64 if len(median) == 2 else 32)
    assert math.prod(on_cpu.patch_size) <= math.prod(on_gpu.patch_size)


@pytest.mark.parametrize("size", [(7, 7, 7), (4, 4, 4), (7, 5)])
def test_a_patch_too_small_to_pool_is_a_network_of_one_stage_like_any_other(size: tuple[int, ...]) -> None:
    spacing_mm = (1.0,) * len(size)
    topology, patch = plan_topology(spacing_mm, size, architecture="unet-2015")
    assert (topology.stages, patch) == (1, size)
    assert topology.margin == (2,) * len(size)  # two convolutions of 3 voxels, which lose one on either side each
    with pytest.raises(PlanError, match="too small for a U-Net"):
        require_pooling(topology, patch, spacing_mm)


def test_a_margin_grows_with_every_stage_and_convolution() -> None:
    topology, _ = planned("slice")  # three stages: twice 1 + 2 on both ways, 4 at the bottom, two convolutions each
    assert topology.margin == (2 * (1 + 2) * 2 + 4 * 2,) * 2
    assert replace(topology, encoder_blocks=(3, 2, 2)).margin == (21, 21)
    assert replace(topology, architecture="unet").margin == (0, 0)

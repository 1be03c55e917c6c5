from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nnlite.errors import PlanError
from nnlite.planning import cpu
from nnlite.planning.counts import multiply_adds
from nnlite.planning.cpu import BATCHES, NARROW, PASSES, STEP_BUDGET, WIDE, fit_cpu
from nnlite.planning.network import NetworkChoice
from nnlite.planning.patch import LONGEST_PADDING, PatchFit
from nnlite.planning.topology import plan_topology


def fit(spacing: tuple[float, ...], median: tuple[float, ...], **network) -> PatchFit:
    channels = network.get("sequences", 1)
    return fit_cpu(spacing, median, 1e9, channels=channels, labels=3, network=NetworkChoice(**network))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(16, 400)] * 3), st.floats(0.5, 5))
def test_a_step_stays_within_its_budget_and_near_the_image(median: tuple[int, int, int], thickness: float) -> None:
    fitted = fit((thickness, 1.0, 1.0), median)
    cost = PASSES * multiply_adds(fitted.topology, fitted.patch_size, channels=1, labels=3)
    assert cost * fitted.batch_size <= STEP_BUDGET
    assert all(size <= LONGEST_PADDING * whole for size, whole in zip(fitted.patch_size, median, strict=True))
    assert fitted.batch_size == 2


@settings(derandomize=True, deadline=None)
@given(st.tuples(*[st.integers(32, 1500)] * 2))
def test_slices_come_in_batches_of_four_to_eight(median: tuple[int, int]) -> None:
    fitted = fit((1.0, 1.0), median)
    cost = PASSES * multiply_adds(fitted.topology, fitted.patch_size, channels=1, labels=3)
    assert cost * fitted.batch_size <= STEP_BUDGET
    assert 4 <= fitted.batch_size <= 8
    assume(fitted.batch_size < 8)
    assert cost * (fitted.batch_size + 1) > STEP_BUDGET


def test_small_images_are_seen_whole_by_the_wide_network() -> None:
    fitted = fit((1.0, 1.0, 1.0), (36, 50, 35))
    assert fitted.patch_size == (40, 56, 40)
    assert fitted.topology.features == (16, 32, 64, 128)
    assert "fewer than a GPU's plan" in fitted.reasons["topology"]


def test_a_short_finest_axis_is_spared_so_that_there_is_something_to_pool() -> None:
    fitted = fit_cpu(
        (1.0, 1.0, 0.5), (24, 96, 24), 1e9, channels=1, labels=3, network=NetworkChoice(architecture="resenc")
    )
    assert fitted.topology.stages >= 2


def test_padding_far_beyond_the_image_is_given_up() -> None:
    # 33 voxels would be padded to 40, 21 % more: the patch of 32 misses one voxel instead.
    assert fit((1.0, 1.0, 1.0), (33, 33, 33)).patch_size == (32, 32, 32)


def test_context_is_preferred_to_width(monkeypatch) -> None:
    monkeypatch.setattr(cpu, "STEP_BUDGET", 5e9)
    large = fit((1.0, 1.0, 1.0), (300, 300, 300))
    assert large.topology.features[0] == NARROW[0]
    assert max(large.topology.features) <= NARROW[1]
    assert fit((1.0, 1.0, 1.0), (24, 24, 24)).topology.features[0] == WIDE[0]


@pytest.mark.parametrize(
    ("network", "ways"),
    [
        ({}, "plan for a GPU"),
        ({"checkpointing": True}, "leave out --checkpointing, or plan for a GPU"),
        ({"fusion": "separate", "sequences": 2}, "leave out --fusion separate, or plan for a GPU"),
        (
            {"architecture": "unet-2015", "kernel": 7},
            r"take kernels of 3 voxels, or take another network \(--architecture unet\), or plan for a GPU",
        ),
    ],
)
@pytest.mark.parametrize("median", [(100, 100, 100), (16, 200, 200)])
def test_a_network_that_multiplies_too_much_at_any_size_is_refused_with_what_to_do(
    median: tuple[int, ...], network: dict, ways: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "STEP_BUDGET", 1e6)
    name = network.get("architecture", "unet")
    with pytest.raises(PlanError, match=rf"^{name} takes too many multiplications for a CPU: .* allows 0\.001; {ways}"):
        fit((1.0, 1.0, 1.0), median, **network)


@pytest.mark.parametrize("median", [(300, 300, 300), (100, 100, 100)])
def test_stages_that_are_computed_twice_make_the_patch_smaller_and_the_reason_says_so(median: tuple[int, ...]) -> None:
    once, twice = fit((1.0, 1.0, 1.0), median), fit((1.0, 1.0, 1.0), median, checkpointing=True)
    assert twice.topology.features[0] == once.topology.features[0]
    assert math.prod(twice.patch_size) < math.prod(once.patch_size)
    reason = NetworkChoice(checkpointing=True).reasons(on_gpu=False)["checkpointing"]
    assert reason.endswith("a CPU's plan allows no more than before: its patch, or its width, may get smaller")


def test_where_only_the_narrow_network_is_affordable_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, narrow = (
        PASSES * BATCHES[3][0] * multiply_adds(topology, patch, channels=1, labels=3)
        for topology, patch in (
            plan_topology((1.0,) * 3, (8, 8, 8), base_features=features, max_features=most)
            for features, most in (WIDE, NARROW)
        )
    )
    monkeypatch.setattr(cpu, "STEP_BUDGET", (wide + narrow) / 2)
    assert fit((1.0, 1.0, 1.0), (100, 100, 100)).topology.features[0] == NARROW[0]

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlite.errors import PlanError
from nnlite.planning.topology import Topology, plan_topology

spacings = st.lists(st.floats(0.1, 10), min_size=3, max_size=3)
patches = st.lists(st.integers(1, 300), min_size=3, max_size=3)


@settings(derandomize=True, deadline=None)
@given(spacings, patches)
def test_the_padded_patch_is_divisible_and_no_stage_loses_an_axis(spacing: list[float], patch: list[int]) -> None:
    topology, padded = plan_topology(spacing, patch)
    for size, whole, step in zip(patch, padded, topology.divisor, strict=True):
        assert whole % step == 0
        assert size <= whole < size + step
        assert step == 1 or whole // step >= 4


@settings(derandomize=True, deadline=None)
@given(spacings, patches)
def test_only_the_proportions_of_the_spacing_matter(spacing: list[float], patch: list[int]) -> None:
    assert plan_topology(spacing, patch) == plan_topology([4 * step for step in spacing], patch)


@settings(derandomize=True, deadline=None)
@given(spacings, patches)
def test_a_kernel_that_has_become_full_stays_full(spacing: list[float], patch: list[int]) -> None:
    topology, _ = plan_topology(spacing, patch)
    for axis in zip(*topology.kernels, strict=True):
        assert list(axis) == sorted(axis)
    assert topology.kernels[-1] == (3, 3, 3)


def test_thick_slices_are_pooled_and_convolved_only_once_voxels_are_nearly_isotropic() -> None:
    # 5 mm slices against 1 mm pixels: 5, 2.5, 1.25 x the in-plane spacing at stages 0, 1, 2. Below 2 the axis joins.
    topology, patch = plan_topology((5.0, 1.0, 1.0), (16, 64, 64))
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert topology.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert patch == (16, 64, 64)


def test_an_axis_left_alone_is_pooled_from_twelve_voxels_on() -> None:
    assert plan_topology((1.0, 1.0), (4, 12))[0].strides == ((1, 1), (1, 2))
    assert plan_topology((1.0, 1.0), (4, 11))[0].strides == ((1, 1),)
    assert plan_topology((1.0, 1.0), (8, 8))[0].strides == ((1, 1), (2, 2))


def test_features_double_up_to_the_cap_of_their_dimension() -> None:
    assert plan_topology((1.0, 1.0), (512, 512))[0].features == (32, 64, 128, 256, 512, 512, 512, 512)
    assert plan_topology((1.0,) * 3, (64,) * 3)[0].features == (32, 64, 128, 256, 320)
    assert plan_topology((1.0,) * 3, (64,) * 3, base_features=8, max_features=32)[0].features == (8, 16, 32, 32, 32)


def test_the_residual_encoder_is_deep_and_its_decoder_shallow() -> None:
    topology, _ = plan_topology((1.0,) * 3, (128,) * 3, architecture="resenc")
    assert topology.encoder_blocks == (1, 3, 4, 6, 6, 6)
    assert topology.decoder_convolutions == (1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"strides": ()}, "strides"),
        ({"strides": ((2, 2), (2, 2))}, "strides"),
        ({"strides": ((1, 1), (2,))}, "strides"),
        ({"strides": ((1, 1), (0, 2))}, "strides"),
        ({"kernels": ((3, 3),)}, "kernels"),
        ({"kernels": ((3, 3), (2, 3))}, "kernels"),
        ({"features": (32,)}, "features"),
        ({"features": (32, 0)}, "features"),
        ({"encoder_blocks": (2, 2, 2)}, "encoder_blocks"),
        ({"decoder_convolutions": (2, 2)}, "decoder_convolutions"),
    ],
)
def test_an_edited_topology_that_makes_no_sense_names_the_key(change: dict[str, tuple], key: str) -> None:
    topology, _ = plan_topology((1.0, 1.0), (8, 8))
    assert isinstance(topology, Topology)
    with pytest.raises(PlanError, match=rf"topology\.{key}"):
        replace(topology, **change)


def test_a_patch_of_other_axes_than_the_spacing_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or 3 axes"):
        plan_topology((1.0, 1.0), (8, 8, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_blocks": (999, 2)}, r"1003 blocks and convolutions; 1000 is the most"),
        ({"features": (4, 10**9)}, r"topology\.features must hold numbers up to 65536, not 1000000000"),
    ],
)
def test_a_network_beyond_all_measure_is_refused(change, message):
    topology, _ = plan_topology((1.0, 1.0), (8, 8))
    with pytest.raises(PlanError, match=message):
        replace(topology, **change)

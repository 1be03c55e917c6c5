from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlite.errors import PlanError
from nnlite.planning.patch import (
    first_patch,
    longest_axis,
    pooling_reason,
    require_pooling,
    shrink,
)
from nnlite.planning.topology import plan_topology


def test_the_first_patch_is_equally_long_in_mm() -> None:
    # Volume 256^3 in voxels of 8 x 1 x 1: edges 64, 512 and 512.
    assert first_patch((8.0, 1.0, 1.0), (1000, 1000, 1000)) == (64, 512, 512)
    assert first_patch((0.5, 0.5), (5000, 5000)) == (2048, 2048)


def test_the_first_patch_is_never_longer_than_the_median_image() -> None:
    assert first_patch((8.0, 1.0, 1.0), (20, 300.5, 1)) == (20, 300, 1)


def test_what_covers_most_of_the_image_gives_way_and_the_last_axis_if_several_do() -> None:
    assert longest_axis((50, 60, 50), (100, 100, 100)) == 1
    assert longest_axis((50, 50, 40), (100, 100, 100)) == 1
    assert longest_axis((1, 50, 40), (1, 100, 100)) == 1  # a single voxel cannot give way
    assert longest_axis((50, 60, 16), (100, 100, 16), spared_edge=16) == 1


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.integers(5, 200), min_size=3, max_size=3),
    st.lists(st.floats(0.2, 5), min_size=3, max_size=3),
    st.data(),
)
def test_shrinking_and_padding_again_loses_voxels_along_that_axis(
    patch: list[int], spacing: list[float], data: st.DataObject
) -> None:
    topology, padded = plan_topology(spacing, patch)
    axis = data.draw(st.integers(0, 2))
    smaller = shrink(padded, topology, axis, spacing)
    assert all(smaller[other] == padded[other] for other in range(3) if other != axis)
    assert padded[axis] - topology.divisor[axis] <= smaller[axis] < padded[axis]
    assert math.prod(smaller) > 0


def test_a_patch_at_its_end_says_so() -> None:
    topology, patch = plan_topology((1.0, 1.0), (1, 16))
    with pytest.raises(PlanError, match="no patch is small enough: 1 x 16"):
        shrink(patch, topology, 0, (1.0, 1.0))


def test_a_network_without_pooling_is_refused_with_the_sizes_it_needs() -> None:
    topology, patch = plan_topology((1.0, 1.0), (7, 11))
    with pytest.raises(
        PlanError, match="7 x 11 voxels at 1 x 1 mm are too small for a U-Net: its finest axis needs 12"
    ):
        require_pooling(topology, patch, (1.0, 1.0))


def test_flat_kernels_are_explained() -> None:
    topology, _ = plan_topology((5.0, 1.0, 1.0), (16, 64, 64))
    assert "kernels are flat in the first 2" in pooling_reason(topology)
    assert "flat" not in pooling_reason(plan_topology((1.0, 1.0), (64, 64))[0])

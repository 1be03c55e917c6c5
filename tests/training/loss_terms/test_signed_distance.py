"""Distances to a border, on both sides of it."""

from __future__ import annotations

import numpy as np
import pytest

from nnlite.training.loss_terms.signed_distance import signed_distance


def test_the_border_runs_between_voxels() -> None:
    mask = np.zeros((1, 6), dtype=bool)
    mask[0, 2:4] = True
    assert signed_distance(mask)[0].tolist() == [1.5, 0.5, -0.5, -0.5, 0.5, 1.5]
    assert np.allclose(signed_distance(~mask), -signed_distance(mask))


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_structure_without_a_border_has_no_distances(everywhere: bool) -> None:
    assert not signed_distance(np.full((3, 4), everywhere)).any()


def test_the_edge_to_what_is_unknown_is_no_border() -> None:
    mask = np.array([0, 0, 0, 1, 1, 1, 0, 0], dtype=bool)
    unknown = np.array([0, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
    # the voxel at 3 is 3 from those that are known to lie outside, on either side; 0 is 3 from the structure
    assert signed_distance(mask, unknown=unknown).tolist() == [2.5, 0, 0, -2.5, -1.5, -0.5, 0.5, 1.5]


def test_an_organ_of_which_every_third_slice_was_drawn_is_as_deep_as_it_is() -> None:
    ball = np.linalg.norm(np.moveaxis(np.indices((25, 25, 25)), 0, -1) - 12, axis=-1) < 10
    unknown = np.ones(ball.shape, dtype=bool)
    unknown[::3] = False
    whole, some = signed_distance(ball), signed_distance(ball & ~unknown, unknown=unknown)
    assert whole[12, 12, 12] < -9
    # what is nearest may lie in a slice that was left out: two slices on, at most, is one that was not
    inside = ball[::3]
    assert np.all(whole[::3][inside] >= some[::3][inside])
    assert np.abs(whole[::3] - some[::3])[inside].max() <= 2
    assert not some[unknown].any()


@pytest.mark.parametrize("seen", [True, False])
def test_a_structure_that_is_all_or_nothing_of_what_is_known_has_no_distances(seen: bool) -> None:
    mask = np.array([seen, seen, False, False])
    assert not signed_distance(mask, unknown=np.array([False, False, True, True])).any()


def test_a_long_axis_counts_as_long_as_it_is() -> None:
    mask = np.array([True, False, False])[:, None, None]
    assert signed_distance(mask, (3.0, 1.0, 1.0)).ravel().tolist() == [-2.5, 2.5, 5.5]

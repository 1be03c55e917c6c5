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


def test_a_long_axis_counts_as_long_as_it_is() -> None:
    mask = np.array([True, False, False])[:, None, None]
    assert signed_distance(mask, (3.0, 1.0, 1.0)).ravel().tolist() == [-2.5, 2.5, 5.5]

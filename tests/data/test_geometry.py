"""Grids: what differs between two of them, and the way from the order of a file to the canonical one and back."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from nnlite.data.geometry import Geometry, grids

SHAPE = (3, 4, 5)
QUARTER_TURN = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def test_differences_name_both_values_of_everything_that_differs():
    a = Geometry(shape=SHAPE, spacing_mm=(1, 1, 2))
    b = Geometry(shape=(3, 4, 6), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 5), direction=QUARTER_TURN)
    assert a.differences(b, names=("image", "label")) == [
        "label shape (3, 4, 6) but image shape (3, 4, 5)",
        "label spacing (1, 1, 1) mm but image spacing (1, 1, 2) mm",
        "label origin (0, 0, 5) mm but image origin (0, 0, 0) mm",
        "label direction ((1, 0, 0), (0, 0, 1), (0, -1, 0)) but image direction ((1, 0, 0), (0, 1, 0), (0, 0, 1))",
    ]


def test_rounding_in_headers_is_no_difference():
    a = Geometry(shape=SHAPE, spacing_mm=(3.27, 0.9765625, 0.9765625), origin_mm=(-812.5, 0, 0))
    b = Geometry(shape=SHAPE, spacing_mm=(3.2699999, 0.97656, 0.97656), origin_mm=(-812.501, 0, 0))
    assert a.differences(b) == []


@pytest.mark.parametrize("wrong", [{"shape": (0, 4, 5)}, {"spacing_mm": (0, 1, 1)}, {"origin_mm": (np.nan, 0, 0)}])
def test_an_impossible_geometry_is_refused_where_it_is_made(wrong):
    with pytest.raises(ValueError, match=r"no voxels|not positive|not a finite"):
        Geometry(**{"shape": SHAPE, "spacing_mm": (1, 1, 1), **wrong})


def test_voxel_volume_is_in_millilitres():
    assert Geometry(shape=SHAPE, spacing_mm=(10, 10, 10)).voxel_volume_ml == 1.0


@pytest.mark.parametrize("axes", [*permutations(range(3))])
@pytest.mark.parametrize("signs", [*product((1.0, -1.0), repeat=3)])
def test_an_array_turned_to_canonical_order_turns_back_and_its_first_voxel_lies_at_the_origin(axes, signs):
    turn = (np.eye(3)[list(axes)] * signs).tolist()
    direction = (tuple(turn[0]), tuple(turn[1]), tuple(turn[2]))
    spacing, origin = np.array([3.0, 0.5, 0.75]), np.array([-7.0, 11.0, 40.0])
    file = Geometry(shape=SHAPE, spacing_mm=tuple(spacing), origin_mm=tuple(origin), direction=direction)
    stored, canonical = grids(file, ".nii.gz")
    assert canonical.direction == ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    array = np.arange(60).reshape(1, *SHAPE)
    np.testing.assert_array_equal(stored.as_stored(stored.canonical(array)), array)
    first = np.array(np.unravel_index(stored.canonical(array)[0, 0, 0, 0], SHAPE))
    np.testing.assert_array_equal(origin + np.array(direction) @ (spacing * first), canonical.origin_mm)

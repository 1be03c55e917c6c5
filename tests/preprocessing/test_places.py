"""Places are those in the whole image, whatever was cropped, transposed and resampled."""

from __future__ import annotations

import numpy as np

from nnlite.preprocessing.mirrored_borders import read_mirrored
from nnlite.preprocessing.places import places
from nnlite.preprocessing.preprocess import Restoration

# an image of 10 x 40 x 20 voxels, of which 4 to 9, all, and 0 to 10 are kept, with its last axis first
RESTORATION = Restoration(
    case_id="case",
    shape=(10, 40, 20),
    box=((4, 9), (0, 40), (0, 10)),
    transpose=(2, 0, 1),
    cropped_shape=(10, 5, 40),
    spacing_mm=(1.0, 2.0, 1.0),
    resampled_shape=(5, 10, 40),
    resampled_spacing_mm=(2.0, 1.0, 1.0),
)


def test_the_whole_case_lies_where_it_was_cut_out() -> None:
    made = places(RESTORATION, (0, 0, 0), (5, 10, 40))
    assert made.shape == (3, 5, 10, 40)
    # x: 10 of 20 voxels in 5 steps of two: middles at 1, 3, 5, 7, 9 of 20
    assert np.allclose(made[0, :, 0, 0], 1 + np.array([1, 3, 5, 7, 9]) / 20)
    # z: 5 of 10 voxels from 4 on in 10 steps of a half
    assert np.allclose(made[1, 0, :, 0], 1 + (4 + 0.25 + 0.5 * np.arange(10)) / 10)
    assert np.allclose(made[2, 0, 0], 1 + (np.arange(40) + 0.5) / 40)
    assert made.dtype == np.float32


def test_a_box_is_a_part_of_it_and_goes_on_beyond() -> None:
    whole = places(RESTORATION, (0, 0, 0), (5, 10, 40))
    assert np.array_equal(places(RESTORATION, (1, 2, 3), (2, 4, 6)), whole[:, 1:3, 2:6, 3:9])
    beyond = places(RESTORATION, (0, -2, 0), (1, 3, 1))[1, 0, :, 0]
    assert np.allclose(np.diff(beyond), 0.05)


def test_places_lie_between_one_and_two() -> None:
    made = places(RESTORATION, (0, 0, 0), (5, 10, 40))
    assert 1 < made.min() < made.max() < 2


def test_mirrored_places_are_those_of_the_voxels_that_are_seen_there() -> None:
    whole = places(RESTORATION, (0, 0, 0), (5, 10, 40))
    for start, size in (((-3, -2, 30), (9, 4, 25)), ((1, 2, 3), (2, 4, 6)), ((-7, 8, 0), (20, 30, 1))):
        assert np.array_equal(places(RESTORATION, start, size, mirrored=True), read_mirrored(whole, start, size))

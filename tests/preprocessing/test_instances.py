"""Masks come apart into single objects, with a border class or at their necks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.inference.postprocess import Postprocessing, Rule, apply
from nnlite.preprocessing.instances import find_instances, split_by_border, split_by_distance

NUCLEI = Labels(names=("background", "nucleus"), values=(0, 1))


def disk(centre: tuple[float, float], radius: float, size: int = 48) -> np.ndarray:
    y, x = np.ogrid[:size, :size]
    return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2)[None]


LEFT, RIGHT = disk((24, 14), 10), disk((24, 33), 10)  # they meet in a few pixels around x = 24


def test_two_disks_that_touch_come_apart_at_their_neck():
    found = split_by_distance(LEFT | RIGHT)
    assert found.max() == 2
    assert found[0, 24, 14] != found[0, 24, 33]
    assert np.array_equal(found > 0, LEFT | RIGHT)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_coronal_or_sagittal_picture_comes_apart_as_an_axial_one_does(axis: int):
    axial, turned = LEFT | RIGHT, np.moveaxis(LEFT | RIGHT, 0, axis)
    assert turned.shape.index(1) == axis
    assert np.array_equal(split_by_distance(turned), np.moveaxis(split_by_distance(axial), 0, axis))


@pytest.mark.parametrize("shape", [disk((24, 24), 15), disk((24, 20), 9) | disk((24, 24), 9)])
def test_an_object_without_a_neck_stays_whole(shape: np.ndarray):
    assert split_by_distance(shape).max() == 1


def test_what_is_left_without_the_border_are_the_seeds_and_the_border_goes_to_the_nearest():
    border = (LEFT | RIGHT) & (np.abs(np.arange(48) - 24) <= 2)
    found = split_by_border(LEFT | RIGHT, border)
    assert found.max() == 2
    assert np.array_equal(found > 0, LEFT | RIGHT)
    assert len(np.unique(found[0, :, 22][LEFT[0, :, 22]])) == 1  # this column is nearer to the left seed alone


def test_specks_beside_a_seed_are_no_objects_but_small_objects_by_themselves_are():
    mask = disk((12, 12), 10) | disk((12, 36), 10) | disk((40, 40), 0)
    border = np.zeros_like(mask)
    border[0, 11:14, 11:14] = True
    border[0, 12, 12] = False  # a pixel in a ring of border, within a nucleus: 1 of about 300
    assert split_by_border(mask, border).max() == 3


def test_an_object_that_is_all_border_is_an_instance():
    found = split_by_border(LEFT | disk((40, 40), 2), disk((40, 40), 2))
    assert found.max() == 2


def test_nothing_gives_no_instances():
    nothing = np.zeros((1, 8, 8), dtype=bool)
    assert split_by_distance(nothing).max() == split_by_border(nothing, nothing).max() == 0


def test_volumes_come_apart_as_pictures_do():
    z, y, x = np.ogrid[:24, :24, :44]
    balls = [((z - 12) ** 2 + (y - 12) ** 2 + (x - centre) ** 2 <= 100) for centre in (12, 31)]
    found = split_by_distance(balls[0] | balls[1])
    assert found.max() == 2


def test_labels_say_how_instances_are_found():
    mask = (LEFT | RIGHT).astype(np.uint8)
    assert find_instances(mask, mask, NUCLEI) is None
    at_necks = Labels(names=NUCLEI.names, values=NUCLEI.values, instances=Instances())
    assert find_instances(mask, mask, at_necks).max() == 2
    by_border = Labels(names=NUCLEI.names, values=NUCLEI.values, instances=Instances(border_px=2))
    assert find_instances(mask, mask, by_border).max() == 1  # no voxel is border, so all is one
    indices = mask.copy()
    indices[0, :, 23:26][mask[0, :, 23:26] > 0] = 2
    assert find_instances(indices, mask, by_border).max() == 2
    assert find_instances(indices, LEFT.astype(np.uint8), by_border).max() == 1  # postprocessing took the right one


def test_what_postprocessing_added_is_shared_out_and_joins_nothing():
    angles = np.arange(6) * np.pi / 3
    ring = [disk((30 + 16 * np.sin(angle), 30 + 16 * np.cos(angle)), 8.2, size=60) for angle in angles]
    numbers = np.zeros((1, 60, 60), dtype=int)
    for number, nucleus in enumerate(ring, start=1):
        numbers[nucleus & (numbers == 0)] = number
    indices = (numbers > 0).astype(np.uint8)
    for number in range(1, 7):
        others = (numbers > 0) & (numbers != number)
        indices[(numbers == number) & (ndimage.distance_transform_edt(~others) <= 3)] = 2
    labels = Labels(names=NUCLEI.names, values=NUCLEI.values, instances=Instances(border_px=3))
    rules = Postprocessing(rules=(Rule(operation="fill_holes", label="nucleus"),))
    filled = apply(labels.without_border(indices), rules, labels, voxel_ml=1)
    assert filled[0, 30, 30] == 1  # between the six, of about 211 pixels each
    sizes = np.bincount(find_instances(indices, filled, labels).ravel())[1:]
    assert len(sizes) == 6
    assert 211 < sizes.min() <= sizes.max() < 300

"""The border of instances is where another one is near; elsewhere a label map stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.preprocessing.instance_border import border, rim, with_border

NUMBERED = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(numbered=True, border_px=2))


@pytest.mark.parametrize(("shape", "width"), [((1, 24, 24), 1), ((1, 24, 24), 3), ((24, 1, 24), 3), ((9, 10, 11), 2)])
def test_border_is_what_lies_within_the_width_of_another_instance(shape: tuple[int, ...], width: int):
    rng = np.random.default_rng(1)
    instances = np.where(rng.random(shape) < 0.04, rng.integers(1, 9, shape), 0).astype(np.int32)
    found = border(instances, width)
    for number in range(1, 9):
        others = (instances != number) & (instances != 0)
        near = distance_transform_edt(~others) <= width
        assert np.array_equal(found[instances == number], near[instances == number])
    assert not found[instances == 0].any()


def test_numbers_become_label_border_and_ignored_voxels():
    values = np.array([[[7, 7, 7, 0, 300, 300, 300, 0, 9]]])
    assert with_border(values, NUMBERED).tolist() == [[[1, 1, 2, 0, 2, 1, 2, 0, 2]]]
    labels = Labels(names=NUMBERED.names, values=(0, 1), ignore=9, instances=NUMBERED.instances)
    assert with_border(values, labels).tolist() == [[[1, 1, 2, 0, 2, 1, 1, 0, 3]]]
    assert labels.ignore_index == 3


@pytest.mark.parametrize("how", [Instances(border_px=2, rim=True), Instances(numbered=True, border_px=2, rim=True)])
def test_a_rim_follows_what_is_known_and_not_the_edge_of_an_ignored_area(how: Instances):
    labels = Labels(names=("background", "nucleus"), values=(0, 1), ignore=9, instances=how)
    cut_off = [1, 1, 1, 1, 9, 9, 9, 9]
    assert with_border(np.array([[cut_off]]), labels).tolist() == [[[1, 1, 1, 1, 3, 3, 3, 3]]]
    beside_background = [1, 1, 1, 1, 9, 0, 0, 0]  # the last of the object is two voxels away from it
    assert with_border(np.array([[beside_background]]), labels).tolist() == [[[1, 1, 1, 2, 3, 0, 0, 0]]]


def test_an_ignored_line_across_an_object_that_has_a_number_makes_no_border():
    labels = Labels(names=("background", "nucleus"), values=(0, 1), ignore=9, instances=NUMBERED.instances)
    assert with_border(np.array([[[4, 4, 9, 4, 4]]]), labels).tolist() == [[[1, 1, 3, 1, 1]]]


def test_without_a_border_a_label_map_is_its_indices():
    labels = Labels(names=("background", "nucleus"), values=(0, 255), instances=Instances())
    assert with_border(np.array([[[255, 0, 255]]]), labels).tolist() == [[[1, 0, 1]]]


def test_connected_parts_have_a_border_of_the_value_of_their_label():
    labels = Labels(names=("background", "nucleus"), values=(0, 255), instances=Instances(border_px=2))
    values = np.array([[[255, 255, 0, 255, 255, 255]]])
    indices = with_border(values, labels)
    assert indices.tolist() == [[[1, 2, 0, 2, 1, 1]]]
    assert labels.to_values(indices).tolist() == values.tolist()
    assert labels.without_border(indices).tolist() == [[[1, 1, 0, 1, 1, 1]]]


def test_a_rim_is_what_lies_within_the_width_of_anything_else_but_not_of_the_edge_of_the_image():
    square = np.zeros((1, 8, 8), dtype=np.int32)
    square[0, :5, :5] = 1  # cut off by the image on two sides
    assert rim(square, 1)[0].sum() == 9  # a row and a column of 5, which share a corner
    assert not rim(square, 1)[0, 0, 0]
    labels = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(border_px=1, rim=True))
    assert (with_border((square > 0).astype(np.uint8), labels) == 2).sum() == 9

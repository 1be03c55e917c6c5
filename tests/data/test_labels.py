"""Label tables: both spellings, both directions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from nnlite.data import labels
from nnlite.data.instances import Instances
from nnlite.data.labels import Labels, values_in
from nnlite.data.records import from_json, to_json
from nnlite.errors import DatasetError, WorkspaceError

MEMBRANE = Labels(names=("background", "membrane"), values=(0, 255))


def test_both_spellings_give_the_same_table_ordered_by_value():
    by_name = Labels.from_table({"posterior": 2, "background": 0, "anterior": 1})
    assert by_name == Labels.from_table({"0": "background", "2": "posterior", "1": "anterior"})
    assert by_name == Labels.from_table({"background": "0", "anterior": "1", "posterior": "2"})
    assert by_name.names == ("background", "anterior", "posterior")
    assert by_name.values == (0, 1, 2)
    assert by_name.foreground == ("anterior", "posterior")
    assert by_name.count == 3


def test_values_become_indices_and_return():
    values = np.array([[[0, 255], [255, 0]]], np.int32)
    indices = MEMBRANE.to_indices(values)
    assert indices.dtype == np.uint8
    assert indices.tolist() == [[[0, 1], [1, 0]]]
    assert MEMBRANE.to_values(indices).dtype == np.uint8
    np.testing.assert_array_equal(MEMBRANE.to_values(indices), values)


def test_more_than_256_labels_take_a_wider_type():
    many = Labels(names=tuple(f"label {i}" for i in range(300)), values=tuple(range(300)))
    assert many.to_indices(np.array([299])).dtype == np.int16
    assert many.to_values(np.array([299], np.int16)).dtype == np.uint16


@pytest.mark.parametrize(("found", "words"), [([0, 3], "value 3 is"), ([-1, 255, 70000], "values -1, 70000 are")])
def test_values_outside_the_table_are_named(found, words):
    with pytest.raises(DatasetError, match=rf"label {words} not in the label table \(0 background, 255 membrane\)"):
        MEMBRANE.to_indices(np.array(found))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"core": 2, "edge": 1, "whole": [1, 2]}, "each value of region 'core' is in a later region"),
        ({"ignore": [2, 3]}, "ignore has several values"),
        ({"a": 2, "ignore": 2}, "ignore has the value 2"),
        ({"whole": [1, 1]}, "is not understood"),
        ({"whole": [0, 1]}, "no foreground labels"),
        ({"whole": []}, "is not understood"),
        ({"a": 1, "b": 1}, "'a' and 'b' have the same value 1"),
        ({"a": 1, "b": True}, "'b': True is not understood"),
        ({"a": "b"}, "'a': 'b' is not understood"),
        ({"a": 70000}, "allowed are 0 to 65535"),
        ({"a": -1}, "background"),
        ({"1": "a", "2": "a"}, "a name or value occurs twice"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(table, message):
    with pytest.raises(DatasetError, match=message):
        Labels.from_table(table)


def test_a_table_survives_the_disk_and_a_broken_one_is_refused():
    assert from_json(to_json(MEMBRANE), Labels, source="x") == MEMBRANE
    with pytest.raises(WorkspaceError, match="background"):
        from_json('{"format_version": 1, "names": ["a"], "values": [3]}', Labels, source="x")


def test_values_are_found_in_all_slices():
    array = np.zeros((3, 4, 4), np.int32)
    array[2, 1, 1] = 7
    array[0, 0, 0] = -1
    assert values_in(array) == (-1, 0, 7)


def test_values_are_found_in_all_parts_whether_few_or_many(monkeypatch):
    monkeypatch.setattr(labels, "PART_VOXELS", 100)
    rng = np.random.default_rng(0)
    for count in (1, 3, 200):
        array = rng.integers(0, count, (5, 9, 11))
        assert values_in(array) == tuple(np.unique(array).tolist())
    assert values_in(np.empty((0, 3), np.uint8)) == ()
    assert values_in(np.array(4)) == (4,)


def test_indices_of_values_that_are_indices_already_are_a_copy():
    array = np.array([0, 2, 1], dtype=np.uint8)
    indices = Labels(names=("background", "a", "b"), values=(0, 1, 2)).to_indices(array)
    array[0] = 1
    assert indices.tolist() == [0, 2, 1]


def test_regions_are_sets_of_labels_painted_by_the_value_that_tells_them_apart():
    labels = Labels.from_table({"background": 0, "whole tumour": [1, 2, 4], "core": [2, 4], "enhancing": 4})
    assert labels.structures == ("whole tumour", "core", "enhancing")
    assert labels.members == ((1, 2, 3), (2, 3), (3,))  # indices: the value 4 is the third
    assert labels.painted == (1, 2, 3)
    assert labels.outputs == 3
    assert labels.foreground == ("label 1", "label 2", "enhancing")


def test_the_order_of_painting_can_be_given_as_in_nnunet():
    table = {"background": 0, "hippocampus": [1, 2], "anterior": 1}
    assert Labels.from_table(table, [2, 1]).painted == (2, 1)
    with pytest.raises(DatasetError, match="regions_class_order has 1 values"):
        Labels.from_table(table, [2])
    with pytest.raises(DatasetError, match="painted 7"):
        Labels.from_table(table, [7, 1])


def test_ignored_voxels_have_the_index_after_the_last_label_and_come_back():
    labels = Labels.from_table({"background": 0, "nodule": 1, "ignore": 255})
    values = np.array([0, 255, 1], np.uint8)
    indices = labels.to_indices(values)
    assert indices.tolist() == [0, 2, 1]
    assert labels.ignore_index == 2
    assert (labels.count, labels.index_count, labels.outputs, labels.structures) == (2, 3, 2, ("nodule",))
    assert labels.to_values(indices).tolist() == values.tolist()


def test_instances_that_are_numbered_are_one_label_and_keep_their_numbers_apart():
    labels = Labels(names=("background", "nucleus"), values=(0, 1), ignore=9, instances=Instances(numbered=True))
    values = np.array([[0, 3, 3, 70000], [0, 9, 9, 1]])
    assert labels.to_indices(values).tolist() == [[0, 1, 1, 1], [0, 2, 2, 1]]
    assert labels.to_instances(values).tolist() == [[0, 2, 2, 3], [0, 0, 0, 1]]
    assert labels.unknown([0, 3, 9, 70000]) == ()
    assert labels.unknown([-1, 3]) == (-1,)
    with pytest.raises(DatasetError, match="there is -1"):
        labels.to_indices(np.array([-1]))


def test_connected_voxels_are_an_instance_and_corners_do_not_connect():
    labels = Labels(names=("background", "nucleus"), values=(0, 255), instances=Instances())
    assert labels.to_instances(np.array([[255, 255, 0], [0, 0, 255]])).tolist() == [[1, 1, 0], [0, 0, 2]]
    with pytest.raises(ValueError, match="have no instances"):
        Labels(names=("background", "nucleus"), values=(0, 255)).to_instances(np.zeros((2, 2), dtype=int))


def test_a_border_is_an_output_of_its_own_after_the_label_and_before_what_is_ignored():
    labels = Labels(names=("background", "nucleus"), values=(0, 1), ignore=2, instances=Instances(border_px=2))
    assert (labels.outputs, labels.border_index, labels.ignore_index, labels.index_count) == (3, 2, 3, 4)
    assert labels.learned == ("nucleus", "nucleus border")
    assert labels.structures == ("nucleus",)
    assert labels.to_indices(np.array([0, 1, 2])).tolist() == [0, 1, 3]
    assert labels.to_values(np.array([0, 1, 2, 3])).tolist() == [0, 1, 1, 2]


def test_masks_of_labels_with_and_without_a_border_compare():
    plain = Labels(names=("background", "nucleus"), values=(0, 1))
    border = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(border_px=2))
    assert border != plain
    assert border.of_masks == plain.of_masks == plain


def test_masks_of_labels_that_are_mirrored_in_other_ways_compare():
    table = {"left lung": 1, "right lung": 2}
    pairs, none = Labels.from_table(table), Labels.from_table(table, mirrored=[])
    assert pairs != none
    assert pairs.of_masks == none.of_masks

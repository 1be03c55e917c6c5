"""Rules remove components, fill holes, and touch nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from nnlite.data.labels import Labels
from nnlite.data.records import from_json, to_json
from nnlite.errors import WorkspaceError
from nnlite.inference.postprocess import Operation, Postprocessing, Rule, apply

LABELS = Labels(names=("background", "organ", "lesion"), values=(0, 1, 2))


def after(indices: np.ndarray, *rules: Rule, voxel_ml: float = 0.001) -> np.ndarray:
    return apply(indices, Postprocessing(rules=rules), LABELS, voxel_ml=voxel_ml)


def row(*indices: int) -> np.ndarray:
    return np.array([[indices]], dtype=np.uint8)


def test_the_largest_component_of_all_foreground_may_hold_several_labels():
    rule = Rule(operation="keep_largest")
    # 1 2 2 is one component of three voxels, though no label of it has more than the lone 1 1
    assert after(row(1, 2, 2, 0, 1, 1), rule).tolist() == row(1, 2, 2, 0, 0, 0).tolist()


def test_the_largest_component_of_a_label_leaves_other_labels_alone():
    rule = Rule(operation="keep_largest", label="organ")
    assert after(row(1, 2, 0, 1, 1, 2, 2), rule).tolist() == row(0, 2, 0, 1, 1, 2, 2).tolist()


def test_of_equal_components_the_first_stays():
    assert after(row(0, 1, 0, 1, 0), Rule(operation="keep_largest")).tolist() == row(0, 1, 0, 0, 0).tolist()


def test_of_equal_components_all_stay_where_a_rule_says_so():
    indices = row(1, 1, 0, 1, 0, 1, 1)
    kept = after(indices, Rule(operation="keep_largest", ties="all"))
    assert kept.tolist() == row(1, 1, 0, 0, 0, 1, 1).tolist()
    assert not after(row(0, 0), Rule(operation="keep_largest", ties="all")).any()
    with pytest.raises(ValueError, match="fill_holes knows no ties"):
        Rule(operation="fill_holes", label="organ", ties="all")


def test_voxels_that_share_a_corner_are_connected():
    indices = np.zeros((2, 3, 3), dtype=np.uint8)
    indices[0, 0, 0] = indices[1, 1, 1] = 1
    indices[0, 2, 2] = 2
    assert np.array_equal(after(indices, Rule(operation="keep_largest", label="organ")), indices)


def test_components_below_the_minimum_go_and_those_that_reach_it_stay():
    rule = Rule(operation="minimum_size", label="organ", minimum_size=1.0)
    # voxels of 0.5 ml: the components have 0.5, 1 and 1.5 ml
    indices = row(1, 0, 1, 1, 0, 1, 1, 1, 2)
    assert after(indices, rule, voxel_ml=0.5).tolist() == row(0, 0, 1, 1, 0, 1, 1, 1, 2).tolist()


def test_a_minimum_in_voxels_does_not_ask_for_the_volume_of_a_voxel():
    rule = Rule(operation="minimum_size", label="organ", minimum_size=2.0, unit="voxels")
    assert after(row(1, 0, 1, 1), rule, voxel_ml=999.0).tolist() == row(0, 0, 1, 1).tolist()


def test_a_cavity_is_filled_but_another_label_in_it_stays():
    indices = np.zeros((7, 7, 7), dtype=np.uint8)
    indices[1:6, 1:6, 1:6] = 1
    indices[2:5, 2:5, 2:5] = 0
    indices[3, 3, 3] = 2
    filled = after(indices, Rule(operation="fill_holes", label="organ"))
    assert (filled == 1).sum() == 5**3 - 1
    assert filled[3, 3, 3] == 2


def test_a_tunnel_is_no_hole_but_a_ring_in_a_picture_has_one():
    rule = Rule(operation="fill_holes", label="organ")
    ring = np.ones((1, 3, 3), dtype=np.uint8)
    ring[0, 1, 1] = 0
    assert after(ring, rule).all()
    tube = np.repeat(ring, 3, axis=0)
    assert np.array_equal(after(tube, rule), tube)
    in_a_volume = np.zeros((3, 3, 3), dtype=np.uint8)
    in_a_volume[1] = ring[0]  # open above and below
    assert np.array_equal(after(in_a_volume, rule), in_a_volume)


def test_a_label_that_was_not_predicted_is_no_matter():
    nothing = np.zeros((3, 3, 3), dtype=np.uint8)
    operations: tuple[Operation, ...] = ("keep_largest", "fill_holes")
    rules = [Rule(operation=operation, label="lesion") for operation in operations]
    assert not after(nothing, Rule(operation="keep_largest"), *rules).any()


def test_rules_follow_each_other_and_leave_their_input_as_it_is():
    indices = row(1, 1, 0, 1, 2)
    before = indices.copy()
    # the first rule keeps 1 1, although together with the 2 the other organ voxel would be as large
    rules = (Rule(operation="keep_largest", label="organ"), Rule(operation="keep_largest"))
    assert after(indices, *rules).tolist() == row(1, 1, 0, 0, 0).tolist()
    assert np.array_equal(indices, before)


def test_rules_on_disk_are_data_and_a_made_up_operation_is_refused():
    rules = Postprocessing(rules=(Rule(operation="minimum_size", label="lesion", minimum_size=0.25),))
    assert from_json(to_json(rules), Postprocessing, source="rules") == rules
    with pytest.raises(WorkspaceError, match="operation"):
        from_json(to_json(rules).replace("minimum_size", "run_code", 1), Postprocessing, source="rules")


def test_rules_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="only minimum_size needs one"):
        Rule(operation="minimum_size", label="organ")
    with pytest.raises(ValueError, match="needs a label"):
        Rule(operation="fill_holes")
    with pytest.raises(ValueError, match="no label spleen to postprocess; there are organ, lesion"):
        after(row(1), Rule(operation="fill_holes", label="spleen"))

"""Folders of instances are scored: numbers where there are any, connected parts of masks elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from nnlite.errors import DatasetError
from nnlite.evaluation.folders import evaluate_folders
from nnlite.evaluation.instance_folders import evaluate_instances

MASK = np.kron(np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]]), np.ones((3, 3))).astype(np.uint8)  # three parts
SPLIT = MASK.astype(np.uint16)
SPLIT[6:, :3], SPLIT[6:, 3:] = 700, 5  # the third part are two touching objects


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    truth, found = tmp_path / "dataset" / "labels", tmp_path / "found"
    truth.mkdir(parents=True)
    found.mkdir()
    imsave(truth / "a.png", MASK, check_contrast=False)
    imsave(found / "a.png", MASK, check_contrast=False)
    return truth, found


def test_what_is_connected_is_one_instance_where_nothing_else_is_said(folders: tuple[Path, Path]):
    [row] = evaluate_instances(*folders).rows
    assert (row.case, row.true_instances, row.predicted_instances, row.aggregated_jaccard) == ("a", 3, 3, 1.0)


def test_a_map_beside_a_mask_holds_its_instances_and_is_no_mask_itself(folders: tuple[Path, Path]):
    truth, found = folders
    imsave(found / "a.instances.png", SPLIT, check_contrast=False)
    [row] = evaluate_instances(truth, found).rows
    # SPLIT gives the two upper parts, which do not touch, one number
    assert (row.true_instances, row.predicted_instances) == (3, 3)
    assert (
        row.found[0] == 1
    )  # of 9 x 3 pixels the right 6 x 3 are above one half; the left third and half of two are not
    assert [case.case for case in evaluate_folders(truth, found).rows] == ["a"]


def test_numbered_instances_of_the_truth_are_told_by_its_description(folders: tuple[Path, Path]):
    truth, found = folders
    imsave(truth / "a.png", SPLIT, check_contrast=False)
    (truth.parent / "nnlite.json").write_text(json.dumps({"instances": "numbered"}))
    imsave(found / "a.instances.png", SPLIT, check_contrast=False)
    [row] = evaluate_instances(truth, found).rows
    assert (row.true_instances, row.found) == (3, (3,) * 10)
    [mask] = evaluate_folders(truth, found).rows  # as masks all numbers are the object's
    assert (mask.label, mask.dice) == ("object", 1.0)


def test_numbers_that_no_description_tells_of_are_refused_with_the_words_for_one(folders: tuple[Path, Path]):
    truth, found = folders
    many = np.arange(2000, dtype=np.uint16).reshape(40, 50)  # more than a table has labels
    for numbers in (SPLIT, many):
        imsave(truth / "a.png", numbers, check_contrast=False)
        imsave(found / "a.png", numbers, check_contrast=False)
        with pytest.raises(DatasetError, match=r'different values; .*, write "instances": "numbered" into an nnlite'):
            evaluate_instances(truth, found)
    (truth.parent / "nnlite.json").write_text(json.dumps({"instances": "numbered"}))
    [row] = evaluate_instances(truth, found).rows
    assert row.true_instances == 1999


def test_a_plain_mask_comes_apart_into_its_parts_also_where_the_truth_is_numbered(folders: tuple[Path, Path]):
    truth, found = folders
    imsave(truth / "a.png", SPLIT, check_contrast=False)
    (truth.parent / "nnlite.json").write_text(json.dumps({"instances": "numbered"}))
    [row] = evaluate_instances(truth, found).rows
    # the parts of MASK: of SPLIT's objects, one is both upper squares, one two thirds of the lower bar, one the rest
    assert (row.true_instances, row.predicted_instances, row.found[0]) == (3, 3, 1)
    imsave(found / "a.png", 3 * SPLIT, check_contrast=False)  # a map of numbers, whatever they are
    [row] = evaluate_instances(truth, found).rows
    assert (row.predicted_instances, row.found) == (3, (3,) * 10)


@pytest.mark.parametrize("value", [1, 255])
def test_images_without_objects_are_scored_with_the_others(folders: tuple[Path, Path], value: int):
    truth, found = folders
    empty = np.zeros_like(MASK)
    for case, predicted in {"empty": empty, "made_up": value * MASK, "numbered": empty}.items():
        imsave(truth / f"{case}.png", empty, check_contrast=False)
        imsave(found / f"{case}.png", predicted, check_contrast=False)
    imsave(found / "numbered.instances.png", SPLIT, check_contrast=False)
    rows = evaluate_instances(truth, found).rows
    counts = [(row.case, row.true_instances, row.predicted_instances) for row in rows]
    assert counts == [("a", 3, 3), ("empty", 0, 0), ("made_up", 0, 3), ("numbered", 0, 3)]
    precisions = [row.average_precision[0] for row in rows]
    np.testing.assert_array_equal(precisions, [1, np.nan, 0, 0])


def test_ignored_pixels_are_no_objects_wherever_their_value_is_named(folders: tuple[Path, Path]):
    truth, found = folders
    line = np.array([[0, 1, 1, 0, 2, 2, 65535, 65535]] * 2, dtype=np.uint16)
    imsave(truth / "a.png", line, check_contrast=False)
    imsave(found / "a.png", (line > 0).astype(np.uint8), check_contrast=False)
    (truth.parent / "nnlite.json").write_text(json.dumps({"instances": "numbered"}))
    table = {"labels": {"background": 0, "nucleus": 1, "ignore": 65535}}
    (truth.parent / "dataset.json").write_text(json.dumps(table))
    [row] = evaluate_instances(truth, found).rows
    assert (row.true_instances, row.predicted_instances, row.aggregated_jaccard) == (2, 2, 1.0)
    [mask] = evaluate_folders(truth, found).rows
    assert (mask.label, mask.dice) == ("nucleus", 1.0)


def test_missing_predictions_and_other_grids_are_told_together(folders: tuple[Path, Path]):
    truth, found = folders
    imsave(truth / "b.png", MASK, check_contrast=False)
    imsave(found / "a.instances.png", SPLIT[:-1], check_contrast=False)
    with pytest.raises(
        DatasetError, match=r"2 of 2 cases cannot be scored:\n  b: no prediction(?s:.*)a: prediction shape"
    ):
        evaluate_instances(truth, found)

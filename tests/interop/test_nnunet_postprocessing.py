"""nnU-Net's decision on postprocessing does to a mask what it does in nnU-Net, or is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnlite.data.labels import Labels
from nnlite.errors import PlanError, UsageError
from nnlite.inference.postprocess import Postprocessing, Rule, apply
from nnlite.interop.nnunet_postprocessing import KEEP_LARGEST, find_postprocessing, read_postprocessing

LABELS = Labels(names=("background", "organ", "lesion", "cyst"), values=(0, 1, 2, 3))

# One slice with two components of all foreground, 12 and 8 voxels; the lesion (2) has two of equal size, and of
# the cyst (3) the second is larger by a voxel.
MASK = """
    1 1 1 0 0 0 2 2
    1 2 2 3 0 0 1 1
    1 1 1 1 0 0 3 3
    0 0 1 0 0 0 1 1
"""
# What nnU-Net 2.8.1 makes of it, by the labels of one call after the other:
AFTER = {
    "all": """
        1 1 1 0 0 0 0 0
        1 2 2 3 0 0 0 0
        1 1 1 1 0 0 0 0
        0 0 1 0 0 0 0 0
    """,
    "lesion": MASK,
    "cyst": """
        1 1 1 0 0 0 2 2
        1 2 2 0 0 0 1 1
        1 1 1 1 0 0 3 3
        0 0 1 0 0 0 1 1
    """,
    "cyst, then all": """
        1 1 1 0 0 0 0 0
        1 2 2 0 0 0 0 0
        1 1 1 1 0 0 0 0
        0 0 1 0 0 0 0 0
    """,
}


def grid(text: str) -> np.ndarray:
    return np.array([[line.split() for line in text.split("\n") if line.strip()]], dtype=np.uint8)


def decision(*labels_or_regions: Any, **others: Any) -> dict[str, Any]:
    """postprocessing.json with one call for each argument."""
    scores = {"foreground_mean": {"Dice": 0.9}, "mean": {"1": {"Dice": 0.9}}}
    return {
        "input_folder": scores,
        "postprocessed": scores,
        "postprocessing_fns": [KEEP_LARGEST] * len(labels_or_regions),
        "postprocessing_kwargs": [{"labels_or_regions": one, **others} for one in labels_or_regions],
    }


def written(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "postprocessing.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("name", "calls"),
    [("all", [[1, 2, 3]]), ("lesion", [2]), ("cyst", [3]), ("cyst, then all", [3, [1, 2, 3]]), ("cyst", [[3]])],
)
def test_rules_do_to_a_mask_what_they_do_in_nnunet(name: str, calls: list[Any], tmp_path: Path):
    rules = read_postprocessing(written(tmp_path, decision(*calls)), LABELS)
    assert np.array_equal(apply(grid(MASK), rules, LABELS, voxel_ml=1.0), grid(AFTER[name]))


def test_calls_become_rules_in_their_order(tmp_path: Path):
    rules = read_postprocessing(written(tmp_path, decision([1, 2, 3], 3, background_label=0)), LABELS)
    assert rules.rules == (
        Rule(operation="keep_largest", ties="all"),
        Rule(operation="keep_largest", label="cyst", ties="all"),
    )
    assert read_postprocessing(written(tmp_path, decision()), LABELS) == Postprocessing()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({**decision(1), "postprocessing_fns": ["fill_holes"]}, "no postprocessing fill_holes, only remove_all_but"),
        (decision(1, background_label=2), r"makes removed voxels 2 \(background_label\)"),
        (decision(1, connectivity=6), "has no argument connectivity here"),
        (decision([[1, 2]]), "works on organ, lesion taken together"),
        (decision(7), r"works on the labels \[7\], and the model has 0 background, 1 organ"),
        (decision([]), r"works on the labels \[\]"),
    ],
)
def test_what_nnlite_has_not_is_refused_by_name_with_a_way_out(content: dict[str, Any], told: str, tmp_path: Path):
    with pytest.raises(PlanError, match=rf"postprocessing\.json: .*{told}.*; move the file away"):
        read_postprocessing(written(tmp_path, content), LABELS)


@pytest.mark.parametrize("content", [{}, {**decision(1), "postprocessing_kwargs": []}, {"postprocessing_fns": "all"}])
def test_another_json_file_is_told_from_a_decision(content: dict[str, Any], tmp_path: Path):
    with pytest.raises(PlanError, match=r"is no decision of nnU-Net on postprocessing: \"postprocessing_fns\""):
        read_postprocessing(written(tmp_path, content), LABELS)


def test_the_decision_for_the_folds_at_hand_is_found(tmp_path: Path):
    assert find_postprocessing(tmp_path, ["fold0"]) is None
    five = written(tmp_path / "crossval_results_folds_0_1_2_3_4", decision())
    assert find_postprocessing(tmp_path, ["fold0"]) == five  # the only one
    two = written(tmp_path / "crossval_results_folds_0_1", decision())
    assert find_postprocessing(tmp_path, ["fold0", "fold1"]) == two
    assert find_postprocessing(tmp_path, [f"fold{number}" for number in range(5)]) == five
    with pytest.raises(UsageError, match=r"several decisions on postprocessing: .*0_1/.*; say which with --post"):
        find_postprocessing(tmp_path, ["fold0"])

"""Own folds: both kinds of file are read, and what contradicts the dataset is told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnlite.data.records import write_record
from nnlite.data.split import Split, make_splits
from nnlite.data.splits_file import coverage_faults, read_splits, require_fitting
from nnlite.errors import DatasetError

FOLDS = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]


def written(folder: Path, content: object) -> Path:
    file = folder / "mine.json"
    file.write_text(json.dumps(content))
    return file


def test_the_files_of_nnunet_and_of_nnlite_hold_the_same_folds(tmp_path: Path):
    splits = read_splits(written(tmp_path, FOLDS))
    assert splits.folds == (
        Split(train=("a", "b"), validation=("c",)),
        Split(train=("c",), validation=("a", "b")),
    )
    assert (splits.rule, splits.reason, splits.names) == ("file", "as in mine.json", ("fold0", "fold1"))
    write_record(tmp_path / "splits.json", splits)
    assert read_splits(tmp_path / "splits.json").folds == splits.folds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no folds; write a list with an object for each"),
        ({"seed": 1}, "holds no folds"),
        ([FOLDS[0], {"train": ["a"]}], "fold1 should be"),
        ([{"train": ["a"], "val": "b"}], "fold0 should be"),
        ([["a"], ["b"]], "fold0 should be"),
        ([{"train": ["a"], "val": [7]}], "fold0 should be"),
    ],
)
def test_what_holds_no_folds_is_refused_with_an_example(tmp_path: Path, content: object, message: str):
    with pytest.raises(DatasetError, match=message):
        read_splits(written(tmp_path, content))


def test_folds_that_nnlite_deals_fit_their_cases():
    assert list(coverage_faults(make_splits("abcdefg"), "abcdefg")) == []


def test_all_contradictions_are_one_message(tmp_path: Path):
    folds = [
        {"train": ["a", "b", "b"], "val": ["b", "x"]},
        {"train": [], "val": ["b", "c", "d", "e", "f", "g", "h"]},
    ]
    file = written(tmp_path, folds)
    with pytest.raises(DatasetError) as refused:
        require_fitting(
            read_splits(file), "abcdefghij", {"a": "twins", "b": "twins"}, source=file, dataset="brain", remedy="repair"
        )
    assert str(refused.value).splitlines() == [
        f"the folds in {file} do not fit brain; repair:",
        "- 1 case is not in the dataset, or excluded: x",
        "- 2 cases are in no fold: i, j",
        "- fold0 trains on b more than once",
        "- fold0 both trains on and holds out b",
        "- fold1 trains on no case",
        "- 1 case is held out by several folds, and would be scored several times: b",
        "- fold0 has cases of the same group on both sides: twins",
    ]


def test_one_fold_is_enough_and_a_case_need_not_be_held_out(tmp_path: Path):
    assert list(coverage_faults(read_splits(written(tmp_path, FOLDS[:1])), "abc")) == []

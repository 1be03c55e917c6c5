"""Folds: scikit-learn's where they serve, else dealt so that groups stay whole and rare labels are everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import KFold

from nnlite.data.split import Splits, make_splits

CASES = [f"case_{number:02d}" for number in range(30)]


def folds_with(splits: Splits, cases: set[str]) -> int:
    """How many folds hold out at least one of these cases."""
    return sum(not cases.isdisjoint(fold.validation) for fold in splits.folds)


@pytest.mark.parametrize("count", [5, 12, 21, 200])
def test_folds_are_those_of_nnunet(count):
    cases = [f"case_{i:03d}" for i in range(count)]
    theirs = KFold(n_splits=5, shuffle=True, random_state=12345).split(np.array(cases))
    ours = make_splits(reversed(cases))
    assert [(fold.train, fold.validation) for fold in ours.folds] == [
        (tuple(cases[i] for i in train), tuple(cases[i] for i in held_out)) for train, held_out in theirs
    ]
    assert ours.seed == 12345


def test_every_case_is_held_out_once_and_never_trained_on_then():
    folds = make_splits("abcdefgh").folds
    assert sorted(case for fold in folds for case in fold.validation) == list("abcdefgh")
    assert all(sorted(fold.train + fold.validation) == list("abcdefgh") for fold in folds)


@pytest.mark.parametrize(("cases", "folds"), [("abcd", 4), ("ab", 2), ("a", 0), ("", 0)])
def test_few_cases_give_as_many_folds_as_can_be_trained(cases, folds):
    assert len(make_splits(cases).folds) == folds


def test_a_repeated_case_is_refused():
    with pytest.raises(ValueError, match="twice"):
        make_splits(["a", "b", "a"])


def test_a_group_is_held_out_as_a_whole_and_the_folds_stay_balanced():
    groups = {case: f"patient {index // 3}" for index, case in enumerate(CASES)}
    splits = make_splits(CASES, groups=groups)
    assert splits.rule == "grouped"
    for fold in splits.folds:
        assert {groups[case] for case in fold.train}.isdisjoint(groups[case] for case in fold.validation)
    assert [len(fold.validation) for fold in splits.folds] == [6] * 5  # ten groups of three in five folds
    assert sorted(case for fold in splits.folds for case in fold.validation) == CASES
    assert splits == make_splits(reversed(CASES), groups=groups)
    assert splits.folds != make_splits(CASES, groups=groups, seed=1).folds


def test_groups_of_one_case_each_change_nothing():
    assert make_splits(CASES, groups={case: case.upper() for case in CASES}) == make_splits(CASES)


def test_a_group_named_like_a_case_without_a_group_does_not_take_it_in():
    splits = make_splits("abcd", folds=2, groups={"b": "a", "c": "a"})
    assert all({"b", "c"} <= set(fold.train) or {"b", "c"} <= set(fold.validation) for fold in splits.folds)
    assert [len(fold.validation) for fold in splits.folds] == [2, 2]


def test_large_groups_are_dealt_first_so_that_small_ones_even_out():
    groups = {case: "large" if index < 5 else case for index, case in enumerate(CASES[:25])}
    assert [len(fold.validation) for fold in make_splits(CASES[:25], groups=groups).folds] == [5] * 5


@pytest.mark.parametrize(("count", "folds"), [(3, 3), (1, 0)])
def test_fewer_groups_than_folds_give_as_many_folds_and_say_so(count: int, folds: int):
    splits = make_splits(CASES, groups={case: str(index % count) for index, case in enumerate(CASES)})
    assert len(splits.folds) == folds
    assert ("there are only 3 groups: 3 folds" if folds else "there is only one group") in splits.reason


def test_labels_that_the_plain_folds_hold_out_everywhere_change_nothing():
    labels = {case: ["liver", *(["tumour"] if index % 2 else [])] for index, case in enumerate(CASES)}
    assert folds_with(make_splits(CASES), {case for case in CASES if "tumour" in labels[case]}) == 5
    assert make_splits(CASES, labels=labels) == make_splits(CASES)


@pytest.mark.parametrize(("holders", "folds"), [(2, 2), (5, 5), (6, 5)])
def test_a_rare_label_that_shares_a_fold_is_spread_over_all_folds_it_can_fill(holders: int, folds: int):
    plain = make_splits(CASES)
    rare = {*plain.folds[0].validation, *plain.folds[1].validation}
    rare = set(sorted(rare, key=lambda case: (case not in plain.folds[0].validation, case))[:holders])
    assert folds_with(plain, rare) == 1
    splits = make_splits(CASES, labels={case: ["liver", *(["cyst"] if case in rare else [])] for case in CASES})
    assert splits.rule == "stratified"
    assert "would hold out no cyst in some fold" in splits.reason
    assert folds_with(splits, rare) == folds
    assert [len(fold.validation) for fold in splits.folds] == [6] * 5
    assert sorted(case for fold in splits.folds for case in fold.validation) == CASES


def test_a_label_of_a_single_case_cannot_be_spread_and_changes_nothing():
    assert make_splits(CASES, labels={"case_07": ["cyst"]}) == make_splits(CASES)


def test_a_label_that_all_cases_have_does_not_change_how_groups_are_dealt():
    groups = {case: "large" if index < 4 else case for index, case in enumerate(CASES)}
    labelled = make_splits(CASES, groups=groups, labels={case: ["liver"] for case in CASES})
    assert labelled == make_splits(CASES, groups=groups)
    assert [len(fold.validation) for fold in labelled.folds] == [6] * 5


def test_rare_labels_are_spread_over_whole_groups():
    groups = {case: f"patient {index // 2}" for index, case in enumerate(CASES)}
    rare = {"case_00", "case_02", "case_04", "case_06", "case_08"}
    splits = make_splits(CASES, groups=groups, labels={case: ["cyst"] for case in rare})
    assert splits.rule in ("stratified", "grouped")
    assert folds_with(splits, rare) == 5
    for fold in splits.folds:
        assert {groups[case] for case in fold.train}.isdisjoint(groups[case] for case in fold.validation)

"""Folds: the same as scikit-learn's, each case held out once."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import KFold

from nnlite.data.split import make_splits


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

"""Folds of a cross-validation: which cases train and which are held out.

The five folds are those of nnU-Net (scikit-learn's shuffled KFold with seed 12345 on sorted case ids), so that results
can be compared case by case.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nnlite.data.records import record

FOLDS = 5
SEED = 12345  # nnU-Net's


@record
class Split:
    """One fold: the cases that train, and those it is scored on."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


@record
class Splits:
    """All folds of a dataset; no folds at all if it has a single case."""

    seed: int
    folds: tuple[Split, ...]


def make_splits(case_ids: Iterable[str], folds: int = FOLDS, seed: int = SEED) -> Splits:
    """Deal the sorted case ids into folds; every case is held out exactly once.

    Fewer cases than folds: as many folds as cases. A single case: no folds, since nothing would be left to train on.

    >>> [split.validation for split in make_splits("abcd", folds=2).folds]
    [('a', 'd'), ('b', 'c')]
    """
    cases = sorted(case_ids)
    if len(set(cases)) < len(cases):
        raise ValueError("a case id occurs twice; it would be trained on and validated with")
    if len(cases) < 2:
        return Splits(seed=seed, folds=())
    shuffled = np.random.RandomState(seed).permutation(len(cases))
    held_out = [set(part.tolist()) for part in np.array_split(shuffled, min(folds, len(cases)))]
    return Splits(
        seed=seed,
        folds=tuple(
            Split(
                train=tuple(case for index, case in enumerate(cases) if index not in part),
                validation=tuple(case for index, case in enumerate(cases) if index in part),
            )
            for part in held_out
        ),
    )

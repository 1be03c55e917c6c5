"""Folds of a cross-validation: which cases train and which are held out.

The five folds are those of nnU-Net (scikit-learn's shuffled KFold with seed 12345 on sorted case ids), so that results
can be compared case by case. Only where that would tear a group of cases apart (the scans of one patient) or leave a
fold without a label that it could have, cases are dealt one by one instead, rarest label first: the iterative
stratification of Sechidis et al. (ECML PKDD 2011), with whole groups as what is dealt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nnlite.data.records import record

FOLDS = 5
SEED = 12345  # nnU-Net's
NAMED_LABELS = 3  # of those that the plain folds miss

Rule = Literal["shuffled", "grouped", "stratified", "file", "dataset"]


@record
class Split:
    """One fold: the cases that train, and those it is scored on."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


@record
class Splits:
    """All folds of a dataset; no folds at all if nothing could be left to train on.

    ``rule`` is what decided: nnU-Net's shuffle, groups, rare labels (groups kept whole, too), the user's file, or folds
    that came with the dataset.
    """

    seed: int
    folds: tuple[Split, ...]
    rule: Rule = "shuffled"
    reason: str = ""

    def without(self, cases: Collection[str]) -> Splits:
        """The same folds for a dataset that lacks these cases."""
        folds = tuple(
            Split(
                train=tuple(case for case in fold.train if case not in cases),
                validation=tuple(case for case in fold.validation if case not in cases),
            )
            for fold in self.folds
        )
        return replace(self, folds=folds)

    @property
    def names(self) -> tuple[str, ...]:
        """What the folds are called: fold0, fold1, ..."""
        return tuple(f"fold{number}" for number in range(len(self.folds)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """Cases that stay together, and how many of them have each label."""

    cases: tuple[str, ...]
    labels: Counter[str]


def make_splits(
    case_ids: Iterable[str],
    folds: int = FOLDS,
    seed: int = SEED,
    *,
    groups: Mapping[str, str] | None = None,
    labels: Mapping[str, Collection[str]] | None = None,
) -> Splits:
    """Deal the sorted case ids into folds; every case is held out exactly once, and a group is held out as a whole.

    ``groups`` names the group of a case (one that is not named is a group of its own), ``labels`` the foreground labels
    that a case has. Fewer groups than folds: as many folds as groups. A single one: no folds, since nothing would be
    left to train on.

    >>> [split.validation for split in make_splits("abcd", folds=2).folds]
    [('a', 'd'), ('b', 'c')]
    >>> [split.validation for split in make_splits("abcd", folds=2, groups={"a": "twins", "b": "twins"}).folds]
    [('a', 'b'), ('c', 'd')]
    """
    cases = sorted(case_ids)
    if len(set(cases)) < len(cases):
        raise ValueError("a case id occurs twice; it would be trained on and validated with")
    units = _units(cases, groups or {}, labels or {})
    count = min(folds, len(units))
    what = "case" if len(units) == len(cases) else "group"
    if count < 2:
        reason = f"there is only one {what}, so none can be held out: train it with the fold all"
        return Splits(seed=seed, folds=(), rule="shuffled" if what == "case" else "grouped", reason=reason)
    few = f"there are only {count} {what}s: {count} folds, each holds one out" if count < folds else ""
    plain, dealt = _shuffled(cases, count, seed), _dealt(units, count, seed)
    missed = _missed(plain, units)
    if len(_missed(dealt, units)) >= len(missed):
        missed = []  # no deal would help
    if not missed and not _torn(plain, units):
        return Splits(seed=seed, folds=_folds(cases, plain), reason=few or "shuffled as by nnU-Net")
    if missed:
        more = f" and {len(missed) - NAMED_LABELS} more" if len(missed) > NAMED_LABELS else ""
        reason = f"nnU-Net's folds would hold out no {', '.join(missed[:NAMED_LABELS])}{more} in some fold"
        reason += "; what is rare is spread over the folds" + (", groups stay whole" if len(units) < len(cases) else "")
    else:
        reason = f"{len(cases)} cases in {len(units)} groups, which stay whole"
    return Splits(
        seed=seed,
        folds=_folds(cases, dealt),
        rule="stratified" if missed else "grouped",
        reason="; ".join(filter(None, (few, reason))),
    )


def _units(cases: Sequence[str], groups: Mapping[str, str], labels: Mapping[str, Collection[str]]) -> list[_Unit]:
    """Groups in the order of their first case; a case without a group is one of its own."""
    together: dict[tuple[bool, str], list[str]] = {}
    for case in cases:
        together.setdefault((case in groups, groups.get(case, case)), []).append(case)
    return [
        _Unit(cases=tuple(members), labels=Counter(label for case in members for label in labels.get(case, ())))
        for members in together.values()
    ]


def _shuffled(cases: Sequence[str], count: int, seed: int) -> list[set[str]]:
    """The held-out cases of each fold as scikit-learn's ``KFold(count, shuffle=True, random_state=seed)`` has them."""
    order = np.random.RandomState(seed).permutation(len(cases))
    return [{cases[index] for index in part} for part in np.array_split(order, count)]


def _torn(held_out: Sequence[set[str]], units: Iterable[_Unit]) -> bool:
    """Whether some group lies in more than one fold."""
    return any(sum(not part.isdisjoint(unit.cases) for part in held_out) > 1 for unit in units)


def _missed(held_out: Sequence[set[str]], units: Sequence[_Unit]) -> list[str]:
    """Labels held out by fewer folds than they could be, rarest first.

    A label whose few cases all share a fold is among them: that fold would not even train on it.
    """
    holders = _holders(units)
    found = []
    for label in _rarest_first(holders):
        cases = {case for unit in units if label in unit.labels for case in unit.cases}
        covered = sum(not part.isdisjoint(cases) for part in held_out)
        if covered < min(holders[label], len(held_out)):
            found.append(label)
    return found


def _dealt(units: Sequence[_Unit], count: int, seed: int) -> list[set[str]]:
    """Deal units one by one to the fold that has the fewest cases with their rarest label, then the fewest cases.

    An empty fold has the fewest of everything, so that none stays empty.
    """
    held_out: list[set[str]] = [set() for _ in range(count)]
    labels: list[Counter[str]] = [Counter() for _ in range(count)]
    for unit, label in _in_dealing_order(units, seed):
        target = min(range(count), key=lambda fold: (labels[fold][label] if label else 0, len(held_out[fold])))
        held_out[target].update(unit.cases)
        labels[target].update(unit.labels)
    return held_out


def _in_dealing_order(units: Sequence[_Unit], seed: int) -> Iterator[tuple[_Unit, str | None]]:
    """Each unit with its rarest label: rare labels first, then large units, else in a seeded order."""
    ranks = {label: rank for rank, label in enumerate(_rarest_first(_holders(units)))}
    rarest = {unit.cases: min(unit.labels, key=ranks.__getitem__, default=None) for unit in units}
    shuffled = [units[index] for index in np.random.RandomState(seed).permutation(len(units))]
    shuffled.sort(key=lambda unit: (ranks.get(rarest[unit.cases] or "", len(ranks)), -len(unit.cases)))
    return ((unit, rarest[unit.cases]) for unit in shuffled)


def _holders(units: Iterable[_Unit]) -> Counter[str]:
    """How many units have each label."""
    return Counter(label for unit in units for label in unit.labels)


def _rarest_first(holders: Counter[str]) -> list[str]:
    return sorted(holders, key=lambda label: (holders[label], label))


def _folds(cases: Sequence[str], held_out: Iterable[set[str]]) -> tuple[Split, ...]:
    return tuple(
        Split(
            train=tuple(case for case in cases if case not in part),
            validation=tuple(case for case in cases if case in part),
        )
        for part in held_out
    )

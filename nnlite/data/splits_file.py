"""A user's own folds: read from nnU-Net's or nnlite's file, and held against the dataset they are for.

nnU-Net writes ``splits_final.json``, a list with ``train`` and ``val`` for each fold; nnlite's ``splits.json`` holds
the same list as ``folds``, with ``train`` and ``validation``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from nnlite.data.faults import LISTED_CASES
from nnlite.data.layouts import read_json
from nnlite.data.split import SEED, Split, Splits
from nnlite.errors import DatasetError

SPLITS_FILE = "splits_final.json"  # as nnU-Net calls it; beside the cases it comes with them
HELD_OUT_KEYS = ("validation", "val")  # nnlite's word, and nnU-Net's


def read_splits(file: Path) -> Splits:
    """Folds as a user wrote them, or copied them from nnU-Net; ``DatasetError`` if the file is neither kind."""
    content = read_json(file)
    entries = content.get("folds") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise DatasetError(
            f"{file} holds no folds; write a list with an object for each, "
            '[{"train": ["case_1", ..], "val": ["case_2", ..]}, ..], as in nnU-Net\'s splits_final.json'
        )
    folds = tuple(_fold(entry, f"fold{number}", file) for number, entry in enumerate(entries))
    return Splits(seed=SEED, folds=folds, rule="file", reason=f"as in {file.name}")


def require_fitting(
    splits: Splits, case_ids: Collection[str], groups: Mapping[str, str], *, source: Path, dataset: str, remedy: str
) -> None:
    """Raise one ``DatasetError`` with everything in which folds contradict the dataset, or do nothing.

    ``groups`` names the group of a case where it has one; a group may not be on both sides of a fold. ``remedy`` ends
    the message.
    """
    if faults := [*coverage_faults(splits, case_ids), *_torn_groups(splits, groups)]:
        raise DatasetError("\n- ".join([f"the folds in {source} do not fit {dataset}; {remedy}:", *faults]))


def coverage_faults(splits: Splits, case_ids: Collection[str]) -> Iterator[str]:
    """In which ways folds are no folds of these cases, in words."""
    named = {case for fold in splits.folds for case in (*fold.train, *fold.validation)}
    if unknown := named - set(case_ids):
        yield f"{_cases(unknown)} not in the dataset, or excluded: {_listed(unknown)}"
    if unused := set(case_ids) - named:
        yield f"{_cases(unused)} in no fold: {_listed(unused)}"
    for name, fold in zip(splits.names, splits.folds, strict=True):
        for part, cases in (("trains on", fold.train), ("holds out", fold.validation)):
            if not cases:
                yield f"{name} {part} no case"
            if twice := _more_than_once(cases):
                yield f"{name} {part} {_listed(twice)} more than once"
        if both := set(fold.train) & set(fold.validation):
            yield f"{name} both trains on and holds out {_listed(both)}"
    if again := _more_than_once([case for fold in splits.folds for case in set(fold.validation)]):
        yield f"{_cases(again)} held out by several folds, and would be scored several times: {_listed(again)}"


def _torn_groups(splits: Splits, groups: Mapping[str, str]) -> Iterator[str]:
    for name, fold in zip(splits.names, splits.folds, strict=True):
        sides = ({groups[case] for case in part if case in groups} for part in (fold.train, fold.validation))
        if both := set.intersection(*sides):
            yield f"{name} has cases of the same group on both sides: {_listed(both)}"


def _fold(entry: Any, name: str, file: Path) -> Split:
    given = entry if isinstance(entry, dict) else {}
    train, held_out = given.get("train"), next((given[key] for key in HELD_OUT_KEYS if key in given), None)
    if not _is_ids(train) or not _is_ids(held_out):
        raise DatasetError(f'{file}: {name} should be {{"train": ["case_1", ..], "val": ["case_2", ..]}}')
    return Split(train=tuple(train), validation=tuple(held_out))


def _is_ids(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _more_than_once(cases: Sequence[str]) -> set[str]:
    return {case for case, times in Counter(cases).items() if times > 1}


def _cases(names: Collection[str]) -> str:
    return f"{len(names)} {'case is' if len(names) == 1 else 'cases are'}"


def _listed(names: Collection[str]) -> str:
    more = f", and {len(names) - LISTED_CASES} more" if len(names) > LISTED_CASES else ""
    return ", ".join(sorted(names)[:LISTED_CASES]) + more

"""Which dataset a workspace was made from, and whether it still is as it was: told from names, sizes and times alone.

A plan remembers every case by the size and modification time of its files, so that a look at the folder (no image is
read) tells what was added, removed or edited since. The plan of a variant remembers for itself: made later, it may have
seen other cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import field
from pathlib import Path

from nnlite.data.dataset import Case, Dataset
from nnlite.data.faults import LISTED_CASES
from nnlite.data.records import read_record, record, write_record
from nnlite.errors import WorkspaceError
from nnlite.workspace import Workspace


@record
class DatasetSource:
    """Which dataset a folder of the workspace was made from, and a signature of each case's files.

    ``cases`` are those of the dataset's plan, ``variants`` those of each variant that has a plan of its own. ``cases``
    is None in a workspace that was planned before nnlite kept signatures: there is nothing to compare with.
    """

    root: str
    cases: dict[str, str] | None = None
    variants: dict[str, dict[str, str]] = field(default_factory=dict)


def remember_source(dataset: Dataset, workspace: Workspace, variant: str | None = None) -> None:
    """Note the dataset as it lies there now for its plan, or for a variant's; what other plans were made from stays."""
    root, now = str(dataset.root.resolve()), case_signatures(dataset)
    before = _source(workspace) or DatasetSource(root=root)
    variants = before.variants if variant is None else {**before.variants, variant: now}
    cases = now if variant is None else before.cases
    write_record(workspace.source, DatasetSource(root=root, cases=cases, variants=variants))


def case_signatures(dataset: Dataset) -> dict[str, str]:
    """A short text per labelled case that changes whenever one of its files is written, exchanged or lost."""
    return {case.id: _signature(case, dataset.root) for case in dataset.cases if case.label is not None}


def refuse_another_source(root: Path, workspace: Workspace) -> None:
    """Raise ``WorkspaceError`` if the workspace was made from a dataset in another folder than ``root``."""
    source = _source(workspace)
    if source is not None and source.root != str(root.resolve()):
        raise WorkspaceError(
            f"{workspace.folder} was made from {source.root}, not from {root.resolve()}; choose another workspace "
            'with --work, or give one dataset another "name" in its nnlite.json; '
            f"if the dataset has moved, delete {workspace.source}"
        )


def refuse_other_cases(dataset: Dataset, workspace: Workspace, variant: str | None = None) -> None:
    """Raise ``WorkspaceError`` if cases were added or removed since the dataset, or a variant of it, was planned."""
    if (change := other_cases(dataset, workspace, variant)) is not None:
        option = f" --as {variant}" if _has_own_plan(workspace, variant) else ""
        raise WorkspaceError(
            f"{dataset.name} has changed since it was planned: {change}; or run nnlite plan{option} again"
        )


def other_cases(dataset: Dataset, workspace: Workspace, variant: str | None = None) -> str | None:
    """Which cases were added or removed since the plan, with the way back; None if they are the same."""
    planned = _planned(workspace, variant)
    if planned is None:
        return None
    now = {case.id for case in dataset.cases if case.label is not None}
    changes = []
    if gone := planned.keys() - now:
        changes.append(f"{in_words(gone)} no longer in the dataset ({listed(gone)}): put back what is missing")
    if new := now - planned.keys():
        changes.append(f'{in_words(new)} new ({listed(new)}): list what is new under "exclude" in nnlite.json')
    return "; ".join(changes) or None


def edited_cases(dataset: Dataset, workspace: Workspace, variant: str | None = None) -> tuple[str, ...]:
    """Cases of the plan whose files were written since."""
    planned = _planned(workspace, variant) or {}
    return tuple(case for case, now in case_signatures(dataset).items() if planned.get(case, now) != now)


def listed(cases: Collection[str]) -> str:
    """The first few of some case ids.

    >>> listed({"b", "a"}), listed("gfedcba")
    ('a, b', 'a, b, c, d, e, ..')
    """
    return ", ".join([*sorted(cases)[:LISTED_CASES], *([".."] if len(cases) > LISTED_CASES else [])])


def in_words(cases: Collection[str]) -> str:
    """How many cases, with the verb.

    >>> in_words({"a"}), in_words({"a", "b"})
    ('1 case is', '2 cases are')
    """
    return f"{len(cases)} {'case is' if len(cases) == 1 else 'cases are'}"


def _source(workspace: Workspace) -> DatasetSource | None:
    return read_record(workspace.source, DatasetSource) if workspace.source.exists() else None


def _planned(workspace: Workspace, variant: str | None) -> dict[str, str] | None:
    """What a plan was made from, None where nothing tells; a variant without a plan follows the dataset's."""
    source = _source(workspace)
    if source is None or variant is None or not _has_own_plan(workspace, variant):
        return None if source is None else source.cases
    return source.variants.get(variant, source.cases)


def _has_own_plan(workspace: Workspace, variant: str | None) -> bool:
    return variant is not None and workspace.plan_of(variant).exists()


def _signature(case: Case, root: Path) -> str:
    content = hashlib.sha256()
    if case.annotated is not None:
        content.update(f"annotated {', '.join(sorted(case.annotated))}\n".encode())
    given = (*case.images, *([case.label] if case.label else []))
    for file in (part for path in given for part in (sorted(path.iterdir()) if path.is_dir() else [path])):
        name = file.relative_to(root) if file.is_relative_to(root) else file
        try:
            state = file.stat()
            content.update(f"{name.as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
        except OSError:  # whoever reads the file will tell what is wrong with it
            content.update(f"{name.as_posix()} is not there\n".encode())
    return content.hexdigest()[:16]

"""Which dataset a workspace was made from, and whether it still is as it was: told from names, sizes and times alone.

A plan remembers every case by the size and modification time of its files, so that a look at the folder (no image is
read) tells what was added, removed or edited since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from nnlite.data.dataset import Case, Dataset
from nnlite.data.faults import LISTED_CASES
from nnlite.data.records import read_record, record
from nnlite.errors import WorkspaceError
from nnlite.workspace import Workspace


@record
class DatasetSource:
    """Which dataset a folder of the workspace was made from, and a signature of each case's files.

    ``cases`` is None in a workspace that was planned before nnlite kept signatures: there is nothing to compare with.
    """

    root: str
    cases: dict[str, str] | None = None


def source_of(dataset: Dataset) -> DatasetSource:
    """The dataset as it lies there now."""
    return DatasetSource(root=str(dataset.root.resolve()), cases=case_signatures(dataset))


def case_signatures(dataset: Dataset) -> dict[str, str]:
    """A short text per labelled case that changes whenever one of its files is written, exchanged or lost."""
    return {case.id: _signature(case, dataset.root) for case in dataset.cases if case.label is not None}


def refuse_another_source(root: Path, workspace: Workspace) -> None:
    """Raise ``WorkspaceError`` if the workspace was made from a dataset in another folder than ``root``."""
    if not workspace.source.exists():
        return
    made_from = read_record(workspace.source, DatasetSource).root
    if made_from != str(root.resolve()):
        raise WorkspaceError(
            f"{workspace.folder} was made from {made_from}, not from {root.resolve()}; choose another workspace "
            'with --work, or give one dataset another "name" in its nnlite.json; '
            f"if the dataset has moved, delete {workspace.source}"
        )


def refuse_other_cases(dataset: Dataset, workspace: Workspace) -> None:
    """Raise ``WorkspaceError`` if cases were added or removed since the dataset was planned."""
    if (change := other_cases(dataset, workspace)) is not None:
        raise WorkspaceError(f"{dataset.name} has changed since it was planned: {change}; or run nnlite plan again")


def other_cases(dataset: Dataset, workspace: Workspace) -> str | None:
    """Which cases were added or removed since the plan, with the way back; None if they are the same."""
    planned = _planned(workspace)
    if planned is None:
        return None
    now = {case.id for case in dataset.cases if case.label is not None}
    changes = []
    if gone := planned.keys() - now:
        changes.append(f"{in_words(gone)} no longer in the dataset ({listed(gone)}): put back what is missing")
    if new := now - planned.keys():
        changes.append(f'{in_words(new)} new ({listed(new)}): list what is new under "exclude" in nnlite.json')
    return "; ".join(changes) or None


def edited_cases(dataset: Dataset, workspace: Workspace) -> tuple[str, ...]:
    """Cases of the plan whose files were written since."""
    planned = _planned(workspace) or {}
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


def _planned(workspace: Workspace) -> dict[str, str] | None:
    return read_record(workspace.source, DatasetSource).cases if workspace.source.exists() else None


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

"""Write a copy of a dataset with corrected headers: ``nnlite check --fix``. The original is only read.

The whole folder is copied, whatever its layout, and what needs it is corrected in the copy (``fix_case.py``). The copy
is made under another name beside its place and appears when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nnlite.data.check import CheckReport
from nnlite.data.dataset import DESCRIPTION_FILE, Case, Dataset, find_dataset, with_reference
from nnlite.data.progress import Progress, silent
from nnlite.data.records import WRITING
from nnlite.errors import UsageError, WorkspaceError
from nnlite.pipeline.fix_case import fix_case
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, Glance, check_found, locate_dataset
from nnlite.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class FixResult:
    """A corrected copy, what was done by case and file, and what a check says of the copy."""

    folder: Path
    repairs: dict[str, tuple[str, ...]]
    report: CheckReport[Glance]


def fix(
    dataset: Path,
    output: Path,
    *,
    work: Path = DEFAULT_WORK,
    resample_channels_to: str | None = None,
    progress: Progress = silent,
) -> FixResult:
    """Copy a dataset to the new folder ``output`` and correct there what has one plausible meaning.

    The copy is checked as in ``check``, with ``resample_channels_to``. Raises ``UsageError`` if the folder is there
    already or files of the dataset lie outside of its folder.
    """
    found, _ = locate_dataset(dataset, work)
    _require_room(found, output)
    repairs: dict[str, tuple[str, ...]] = {}
    with _appearing(output) as beside:
        _copy(found, beside)
        for number, case in enumerate(found.cases, start=1):
            copied = _within(case, found.root, beside)
            told = [f"{repair.file.relative_to(beside)}: {one}" for repair in fix_case(copied) for one in repair.done]
            if told:
                repairs[case.id] = tuple(told)
            progress("fix", number, len(found.cases))
    copy = with_reference(find_dataset(output / dataset.name if dataset.is_file() else output), resample_channels_to)
    workspace = Workspace(root=work, dataset=copy.name)
    return FixResult(folder=output, repairs=repairs, report=check_found(copy, workspace, progress=progress))


def _require_room(dataset: Dataset, output: Path) -> None:
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} is there already; give a new folder with --fix")
    if output.resolve().is_relative_to(dataset.root.resolve()):
        raise UsageError(f"{output} lies in the dataset itself; give a folder elsewhere with --fix")
    for case in dataset.cases:
        for file in (*case.images, *([case.label] if case.label else [])):
            if not Path(os.path.normpath(file)).is_relative_to(Path(os.path.normpath(dataset.root))):
                raise UsageError(
                    f"{file} lies outside of {dataset.root}, which is copied as a whole; put the list of cases into a "
                    "folder that holds all its files"
                )


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its name when all went well, and is removed when not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{WRITING}{os.getpid()}-", dir=folder.parent))
    try:
        yield beside
        beside.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _copy(dataset: Dataset, output: Path) -> None:
    """Copy all files of a dataset; links become what they lead to, broken ones are left out."""
    seen: set[Path] = set()
    for folder, folders, files in os.walk(dataset.root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        there = output / Path(folder).relative_to(dataset.root)
        there.mkdir(parents=True, exist_ok=True)
        for name in files:
            _copy_file(Path(folder) / name, there / name)
    if dataset.description is not None:
        shutil.copyfile(dataset.description, output / DESCRIPTION_FILE)


def _copy_file(source: Path, target: Path) -> None:
    if not source.is_file():
        return
    try:
        shutil.copyfile(source, target)  # not its permissions: the copy is to be written to
    except OSError as error:
        raise WorkspaceError(f"{source} could not be copied: {error.strerror}; repair this and try again") from error


def _within(case: Case, root: Path, output: Path) -> Case:
    """The case as it lies in the copy."""

    def there(path: Path) -> Path:
        return output / Path(os.path.normpath(path)).relative_to(Path(os.path.normpath(root)))

    images = tuple(there(path) for path in case.images)
    return replace(case, images=images, label=None if case.label is None else there(case.label))

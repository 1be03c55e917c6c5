"""``nnlite report``: everything the workspace knows of a dataset as one HTML file. Reads; trains and predicts nothing.

What is not there yet is named in the report instead of failing: a report of a single finished fold is of use, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnlite.data.progress import Progress, silent
from nnlite.data.records import write_text
from nnlite.errors import UsageError
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset, read_plan
from nnlite.pipeline.report_contents import gather


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResult:
    """Where the report lies, and what it does not have yet."""

    path: Path
    missing: tuple[str, ...]


def report(
    dataset: Path, *, work: Path = DEFAULT_WORK, output: Path | None = None, progress: Progress = silent
) -> ReportResult:
    """Write the report of a planned dataset to ``output``, by default ``report.html`` in its workspace.

    ``PlanError`` where nothing was planned.
    """
    if output is not None and output.is_dir():
        raise UsageError(f"{output} is a folder; name the file, for example {output / 'report.html'}")
    found, workspace = locate_dataset(dataset, work)
    plan = read_plan(workspace)
    contents = gather(dataset, found, workspace, plan, progress=progress)
    from nnlite.evaluation.report.page import render

    path = workspace.report if output is None else output
    write_text(path, render(contents))
    return ReportResult(path=path, missing=contents.missing)

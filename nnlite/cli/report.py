"""``nnlite report``: everything that is known of a dataset on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import DEFAULT_WORK, DatasetPath, Verbose, Work


def report(
    dataset: DatasetPath,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page. \\[default: in the workspace]")
    ] = None,
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Write one HTML file: dataset, plan, training, scores, worst and best cases, selection. Opens offline."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        result = pipeline.report(dataset, work=work, output=output, progress=progress)
    for what in result.missing:
        screen.warn(f"not in the report yet: {what}")
    screen.line(f"report, {result.path.stat().st_size / 1e6:.1f} MB -> {result.path}")

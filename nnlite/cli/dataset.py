"""``nnlite check`` and ``nnlite preprocess``: from a folder of scans to cases ready for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import (
    DEFAULT_WORK,
    Cluster,
    DatasetPath,
    ResampleChannelsTo,
    Verbose,
    Work,
    parse_configuration,
)

if TYPE_CHECKING:
    from nnlite.data.check import CheckReport
    from nnlite.pipeline import FixResult


def check(
    dataset: DatasetPath,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="NEW_FOLDER", help="Write a copy with corrected headers, and check that."),
    ] = None,
    resample_channels_to: ResampleChannelsTo = None,
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Read every case of a dataset and list all its faults at once."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        if fix is not None:
            fixed = pipeline.fix(dataset, fix, work=work, resample_channels_to=resample_channels_to, progress=progress)
            report = fixed.report
        else:
            report = pipeline.check(dataset, work=work, resample_channels_to=resample_channels_to, progress=progress)
    if fix is not None:
        _show_repairs(fixed)
    _show_check_report(report)
    report.raise_if_faulty()


def preprocess(
    dataset: DatasetPath,
    configurations: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG",
            parser=parse_configuration,
            help="Default: all of plan.json but 3d-cascade; name variants.",
        ),
    ] = None,
    cluster: Cluster = "none",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Make the cases ready for training (train does it when it is missing)."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        folders = pipeline.preprocess(dataset, configurations or (), work=work, cluster=cluster, progress=progress)
    for name, folder in folders.items():
        screen.line(f"{name}: cases ready -> {folder}")


def _show_repairs(result: FixResult) -> None:
    """What was corrected, case by case, and where the copy lies."""
    for case, done in result.repairs.items():
        for what in done:
            screen.line(f"{case}: {what}")
    number = "1 case" if len(result.repairs) == 1 else f"{len(result.repairs)} cases"
    screen.line(f"{number} corrected in a copy of the dataset -> {result.folder}")


def _show_check_report(report: CheckReport[Any]) -> None:
    """What a dataset is, and its warnings; faults are raised by the report itself."""
    dataset = report.dataset
    for warning in report.warnings:
        screen.warn(f"warning: {warning}")
    labels = ", ".join(dataset.labels.foreground) if dataset.labels else "none"
    screen.line(f"{dataset.name}: {dataset.layout}, {len(dataset.cases)} cases")
    screen.line(f"channels: {', '.join(dataset.channels)}; labels: {labels}")
    if not report.faults:
        screen.line("no faults found")

"""``nnlite check`` and ``nnlite preprocess``: from a folder of scans to cases ready for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import (
    DEFAULT_WORK,
    DatasetPath,
    ResampleChannelsTo,
    Verbose,
    Work,
    parse_configuration,
)

if TYPE_CHECKING:
    from nnlite.data.check import CheckReport


def check(
    dataset: DatasetPath,
    resample_channels_to: ResampleChannelsTo = None,
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Read every case of a dataset and list all its faults at once."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        report = pipeline.check(dataset, work=work, resample_channels_to=resample_channels_to, progress=progress)
    _show_check_report(report)
    report.raise_if_faulty()


def preprocess(
    dataset: DatasetPath,
    configurations: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG", parser=parse_configuration, help="Default: all that were planned."),
    ] = None,
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Make the cases ready for training (train does it when it is missing)."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        folders = pipeline.preprocess(dataset, configurations or (), work=work, progress=progress)
    for name, folder in folders.items():
        screen.line(f"{name}: cases ready -> {folder}")


def _show_check_report(report: CheckReport) -> None:
    """What a dataset is, and its warnings; faults are raised by the report itself."""
    dataset = report.dataset
    for warning in report.warnings:
        screen.warn(f"warning: {warning}")
    labels = ", ".join(dataset.labels.foreground) if dataset.labels else "none"
    screen.line(f"{dataset.name}: {dataset.layout}, {len(dataset.cases)} cases")
    screen.line(f"channels: {', '.join(dataset.channels)}; labels: {labels}")
    if not report.faults:
        screen.line("no faults found")

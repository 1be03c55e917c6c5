"""``nnlite convert``: a dataset out of DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import Verbose

LISTED_NOTES = 12  # about half a screen


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="DICOM_FOLDER", help="Series with their structure sets or segmentations.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="New folder for the dataset.")],
    structures: Annotated[
        list[str] | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="What becomes a label: NAME, a pattern with *, or LABEL=PATTERN; may be repeated. [default: all]",
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Turn DICOM series with RTSTRUCT or SEG into a dataset of NIfTI files."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        result = pipeline.convert(source, output, structures=structures or (), progress=progress)
    for note in result.notes[:LISTED_NOTES]:
        screen.warn(note)
    if len(result.notes) > LISTED_NOTES:
        screen.warn(f"and {len(result.notes) - LISTED_NOTES} more such notes")
    count = "1 case" if len(result.cases) == 1 else f"{len(result.cases)} cases"
    screen.line(f"{count} of {result.channel}; labels: {result.labels.in_words()} -> {result.folder}")

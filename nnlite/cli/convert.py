"""``nnlite convert``: a dataset in another layout, or one out of DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import Verbose, one_of

LISTED_NOTES = 12  # about half a screen
LAYOUTS = ("folder", "nnunet", "msd", "bids", "table")


def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A dataset, or DICOM series with their structure sets or segmentations."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="New folder for the dataset.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="LAYOUT",
            parser=one_of(LAYOUTS, what="layout", where="--to"),
            help="folder (images/ and labels/), nnunet, msd (Decathlon), bids or table.",
        ),
    ] = "folder",
    link: Annotated[
        bool, typer.Option("--link", help="Link files instead of copying them, where they can stay as they are.")
    ] = False,
    structures: Annotated[
        list[str] | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="What becomes a label of DICOM files: NAME, a pattern with *, or LABEL=PATTERN; may be repeated. "
            "\\[default: all]",
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Write a dataset in another layout, or make one of DICOM series with RTSTRUCT or SEG."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        result = pipeline.convert(
            source,
            output,
            to=to,  # type: ignore[arg-type]  # its parser let only these through
            structures=structures or (),
            link=link,
            progress=progress,
        )
    for note in result.notes[:LISTED_NOTES]:
        screen.warn(note)
    if len(result.notes) > LISTED_NOTES:
        screen.warn(f"and {len(result.notes) - LISTED_NOTES} more such notes")
    count = "1 case" if len(result.cases) == 1 else f"{len(result.cases)} cases"
    screen.line(f"{count} of {result.channel}; labels: {result.labels.in_words()} -> {result.folder}")

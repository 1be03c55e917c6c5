"""``nnlite show-augmentation``: pictures of what a training will see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import (
    DEFAULT_WORK,
    ConfigurationName,
    DatasetPath,
    Verbose,
    Work,
    parse_augmentation,
)

if TYPE_CHECKING:
    from nnlite.training.augmentation.presets import PresetName


def show_augmentation(
    dataset: DatasetPath,
    configuration: ConfigurationName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PAGE", help="The new picture, say page.png.")],
    augmentation: Annotated[
        str, typer.Option(metavar="PRESET", parser=parse_augmentation, help="nnunet, ct, mr, microscopy or none.")
    ] = "nnunet",
    seed: Annotated[int, typer.Option(min=0, help="Another one takes another case, and draws anew.")] = 0,
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Draw what each transform of an augmentation makes of a patch, and six samples as they are trained on."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        shown = pipeline.show_augmentation(
            dataset,
            configuration,
            output,
            augmentation=cast("PresetName", augmentation),
            seed=seed,
            work=work,
            progress=progress,
        )
    screen.line(f"{augmentation} on a patch of {shown.case_id}: {shown.pictures} pictures -> {shown.path}")

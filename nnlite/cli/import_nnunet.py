"""``nnlite import-nnunet``: take over what nnU-Net has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import Verbose


def import_nnunet(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT_FOLDER", help="Where nnU-Net v2 trained one configuration: plans.json, fold_0, .."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="New folder for nnlite's model.")],
    postprocessing: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="nnU-Net's postprocessing.json. \\[default: the one in RESULT_FOLDER]"),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Take over models that nnU-Net v2 has trained; predict uses them right away."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        result = pipeline.import_nnunet(folders, output, postprocessing=postprocessing, progress=progress)
    for note in result.notes:
        screen.line(note)
    for name, folds in result.folds.items():
        configuration = result.plan.configurations[name]
        spacing = "x".join(f"{step:.2f}" for step in configuration.spacing_mm)
        patch = "x".join(map(str, configuration.patch_size))
        architecture = configuration.topology.architecture
        screen.line(f"{name} {', '.join(folds)}: {architecture}, patch {patch} at {spacing} mm")
    screen.line(f"{result.plan.dataset}: {result.plan.labels.in_words()} -> {result.folder}")

"""``nnlite export``: a model as one file, to be handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import DEFAULT_WORK, Verbose, Work, parse_configuration, parse_fold

BYTES_PER_MB = 1e6


def export(
    model: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A dataset with trained runs, an imported model, or a run.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The new file, say liver.nnlite.")],
    folds: Annotated[
        str | None, typer.Option(metavar="FOLD,FOLD", help="Only these folds. \\[default: as predict would take them]")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="CONFIG", parser=parse_configuration, help="Only this trained configuration."),
    ] = None,
    licence: Annotated[
        Path | None,
        typer.Option("--licence", "--license", metavar="FILE", help="Text of the licence that the model is under."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Write the model that predicts into one file, which predict takes on any machine."""
    wanted = tuple(parse_fold(name) for name in folds.split(",")) if folds else ()
    from nnlite import pipeline

    result = pipeline.export(model, output, work=work, configuration=config, folds=wanted, licence=licence, force=force)
    packed = result.model
    rules = ", ".join(packed.postprocessing.in_words()) or "none"
    chosen = "as selected" if packed.selected is not None else "not selected by cross-validation"
    members, answering = (" + ".join(names) for names in (packed.members, packed.folds))
    screen.line(f"{members} {answering}, {chosen}; postprocessing: {rules}")
    if not result.licensed:
        screen.warn(
            "the file says that no licence is stated: nobody else may use the model; add one with --licence FILE"
        )
    networks = "1 network" if len(packed.runs) == 1 else f"{len(packed.runs)} networks"
    size = result.path.stat().st_size / BYTES_PER_MB
    screen.line(f"{result.plan.dataset}: {networks}, {size:.1f} MB -> {result.path}")

"""``nnlite demo``: the whole way on phantoms, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.application import app

if TYPE_CHECKING:
    from nnlite.demo import Demo


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for everything the demo makes.")] = Path(
        "nnlite_demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Draws other phantoms, and another network.")] = 0,
) -> None:
    """Draw phantoms, then plan, train, predict and evaluate on them: the whole way in minutes, without data."""
    from nnlite import demo as recipe
    from nnlite.data.phantom import write_phantom

    demonstration = recipe.Demo(folder=out, seed=seed)
    demonstration.claim()
    with screen.progress_bars() as progress:
        write_phantom(demonstration.dataset, cases=recipe.TRAINING_CASES, seed=seed, progress=progress)
        write_phantom(demonstration.test, cases=recipe.TEST_CASES, seed=seed, prefix="test", progress=progress)
    screen.line(f"{recipe.TRAINING_CASES} phantom abdomens to train on -> {demonstration.dataset}")
    screen.line(f"{recipe.TEST_CASES} more to test with -> {demonstration.test}")
    for arguments in demonstration.commands():
        screen.command_line(["nnlite", *arguments])
        status = app(arguments, standalone_mode=False)
        if status:
            raise typer.Exit(status)
    _show_demo(demonstration)


def _show_demo(made: Demo) -> None:
    """Where everything lies, and what to look at first."""
    table = screen.table("what", "where")
    for what, where in (
        ("training images", made.dataset / "images"),
        ("training labels", made.dataset / "labels"),
        ("plan, with reasons", made.workspace.plan),
        ("trained network", made.run.folder),
        ("course of the training", made.run.plot),
        ("validation scores", made.run.scores),
        ("test images", made.test / "images"),
        ("predicted masks", made.predictions),
        ("test scores", made.scores),
    ):
        table.add_row(what, where.as_posix())
    screen.line(f"\nThe demo is done. Everything lies below {made.folder.absolute()}\n")
    screen.console().print(table)

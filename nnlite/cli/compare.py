"""``nnlite compare``: trainings side by side, by the cases that all of them held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import DEFAULT_WORK, DatasetPath, Verbose, Work

if TYPE_CHECKING:
    from nnlite.pipeline import RunComparison

LABELS_IN_TABLE = 3  # more would not fit a terminal; a JSON file has them all


def compare(
    dataset: DatasetPath,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="3d, 3d@NAME, or a fold as 3d@NAME/fold0; the first is what others are set against."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the numbers to a JSON file as well.")
    ] = None,
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Compare trainings: Dice with intervals and a paired test, parameters, time per step, memory."""
    from nnlite import pipeline

    result = pipeline.compare(dataset, runs, work=work, output=output)
    for remark in result.remarks:
        screen.warn(remark)
    screen.console().print(_scores(result))
    if all(run.instances is not None for run in result.runs):
        screen.console().print(_objects(result))
    screen.console().print(_costs(result))
    screen.line(f"{len(result.cases)} held-out cases" + ("" if output is None else f" -> {output}"))


def _scores(result: RunComparison) -> screen.Table:
    """How well each does, and how sure the difference to the first is."""
    labels = result.labels if len(result.labels) <= LABELS_IN_TABLE else ()
    table = screen.table("training", *labels, "mean", "95 % interval", "difference", "95 % interval", "p")
    for number, run in enumerate(result.runs):
        one = run.scores
        table.add_row(
            run.name,
            *(f"{one.labels[label]:.4f}" for label in labels),
            f"{one.mean_dice:.4f}",
            screen.interval(one.mean_dice_interval, "{:.4f}"),
            f"{one.difference:+.4f}" if number else "",
            screen.interval(one.difference_interval, "{:+.4f}") if number else "",
            "" if one.wilcoxon_p is None else f"{one.wilcoxon_p:.2g}",
        )
    return table


def _objects(result: RunComparison) -> screen.Table:
    """How well each tells single objects apart: in a table of its own, as the first is wide enough."""
    table = screen.table("training", "AP 0.5", "AJI")
    for run in result.runs:
        if (found := run.instances) is not None:
            table.add_row(
                run.name, screen.fraction(found.average_precision[0]), screen.fraction(found.aggregated_jaccard)
            )
    return table


def _costs(result: RunComparison) -> screen.Table:
    """What each takes."""
    table = screen.table("training", "folds", "parameters", "s/step", "GiB", "trained")
    for run in result.runs:
        table.add_row(
            run.name,
            ", ".join(run.folds),
            f"{run.parameters / 1e6:.2f} M",
            "-" if run.step_s is None else f"{run.step_s:.3f}",
            f"{run.memory_gib:.2f}" + ("" if run.memory_measured else " predicted"),
            "-" if run.training_s is None else screen.words_for_seconds(run.training_s),
        )
    return table

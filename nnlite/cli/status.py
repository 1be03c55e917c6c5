"""``nnlite status``: what is trained of a dataset, what is being trained, and what is missing."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from nnlite.cli import screen
from nnlite.cli.arguments import DEFAULT_WORK, DatasetPath, Verbose, Work

if TYPE_CHECKING:
    from nnlite.pipeline import DatasetStatus, FoldStatus


def status(dataset: DatasetPath, work: Work = DEFAULT_WORK, verbose: Verbose = False) -> None:
    """Show which folds are done, running, unfinished or missing, and what to type next."""
    from nnlite import pipeline

    _show_status(pipeline.status(dataset, work=work))


def _show_status(found: DatasetStatus) -> None:
    """A row per configuration and fold, then what to know and the next command."""
    table = screen.table("config", "fold", "state", "epoch", "mean Dice", "training", "left")
    for fold in found.folds:
        table.add_row(
            fold.configuration,
            fold.fold,
            fold.state,
            _epochs(fold),
            screen.fraction(fold.mean_dice),
            screen.words_for_seconds(fold.training_s) if fold.epoch else "-",
            "-" if fold.eta_s is None else screen.words_for_seconds(fold.eta_s),
        )
    screen.console().print(table)
    for fold in found.folds:
        if fold.holder is not None:
            screen.line(f"{fold.configuration} {fold.fold}: {fold.holder}")
    for note in found.notes:
        screen.line(note)
    if found.next_command is None:
        screen.line("next: wait for what is running")
    else:
        screen.line(f"next: {shlex.join(found.next_command)}")


def _epochs(fold: FoldStatus) -> str:
    """How many epochs are over; of how many, while that matters."""
    if fold.epochs is None or fold.state == "done":
        return str(fold.epoch) if fold.epoch else "-"
    return f"{fold.epoch} of {fold.epochs}"

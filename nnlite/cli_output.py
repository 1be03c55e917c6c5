"""What the command line shows: progress bars, tables, and one line for each thing that was made and where it lies.

Results go to stdout and progress to stderr, so that a result can be piped. Where stderr is no terminal (a log file, a
cluster's job) bars would be noise: trainings then write a line from time to time and everything else stays silent.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from nnlite.data.check import CheckReport
    from nnlite.demo import Demo
    from nnlite.evaluation.scores import Scores
    from nnlite.pipeline import PlanResult, PredictResult, TrainResult
    from nnlite.planning.planner import Plan
    from nnlite.training.curves import EpochRecord

WIDTH_WITHOUT_TERMINAL = 120  # as wide as the tables get; a pipe has no width of its own
SECONDS_BETWEEN_LINES = 10.0  # of a training that writes into a log file


def _console(*, stderr: bool = False) -> Console:
    """A console for the stream as it is now: made afresh, because tests and pagers exchange streams."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, width=width, highlight=False, emoji=False)


def line(text: str) -> None:
    """One line on stdout, never wrapped, so that paths can be copied."""
    _console().print(text, markup=False, soft_wrap=True)


def command_line(words: Sequence[str]) -> None:
    """A command as its user would type it."""
    _console().print(f"\n$ {shlex.join(words)}", markup=False, soft_wrap=True, style="bold")


def warn(text: str) -> None:
    """A remark on stderr."""
    _console(stderr=True).print(text, markup=False, soft_wrap=True, style="yellow")


def error(text: str) -> None:
    """What went wrong and the way out, on stderr."""
    _console(stderr=True).print(f"error: {text}", markup=False, soft_wrap=True, style="red")


def words_for_seconds(seconds: float) -> str:
    """A duration for people, in its two largest units.

    >>> words_for_seconds(8.24), words_for_seconds(200), words_for_seconds(3900)
    ('8.2 s', '3 min 20 s', '1 h 05 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def fraction(value: float | None) -> str:
    """A score from 0 to 1; a dash where there is none (an absent structure).

    >>> fraction(0.8714), fraction(None)
    ('0.871', '-')
    """
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


class ProgressBars:
    """One bar per stage of a command: call it as a stage's ``progress``, and ``epoch`` after each training epoch."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._last_line_s = -math.inf

    def __call__(self, what: str, done: int, total: int) -> None:
        """Advance the bar of a stage."""
        self._show(what, done, total, f"{done}/{total}")

    def epoch(self, what: str, record: EpochRecord) -> None:
        """Show how the training of ``what`` is doing."""
        number = record.epoch + 1
        detail = (
            f"epoch {number}/{record.epochs}  loss {record.train_loss:.3f}  "
            f"pseudo Dice {fraction(record.mean_pseudo_dice)}  waiting for data {record.data_wait_share:.0%}  "
            f"ETA {words_for_seconds(record.eta_s)}"
        )
        self._show(what, number, record.epochs, detail)
        if self._bars.disable and time.monotonic() - self._last_line_s >= SECONDS_BETWEEN_LINES:
            self._last_line_s = time.monotonic()
            self._bars.console.print(f"{what}: {detail}", markup=False, soft_wrap=True)

    def _show(self, what: str, done: int, total: int, detail: str) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, detail=detail)
        self._bars.update(self._tasks[what], completed=done, total=total, detail=detail)


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Bars on stderr for as long as the block runs."""
    console = _console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[detail]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield ProgressBars(bars)


def check_report(report: CheckReport) -> None:
    """What a dataset is, and its warnings; faults are raised by the report itself."""
    dataset = report.dataset
    for warning in report.warnings:
        warn(f"warning: {warning}")
    labels = ", ".join(dataset.labels.foreground) if dataset.labels else "none"
    line(f"{dataset.name}: {dataset.layout}, {len(dataset.cases)} cases")
    line(f"channels: {', '.join(dataset.channels)}; labels: {labels}")
    if not report.faults:
        line("no faults found")


def plan(result: PlanResult) -> None:
    """The planned configurations, what to know about them, and where the plan lies."""
    planned = result.plan
    from nnlite.planning.cost import parameters, step_gib

    memory_column = ["GiB"] if planned.memory_gib is not None else []
    table = _table("config", "spacing (mm)", "patch", "batch", "width", "stages", "parameters", *memory_column)
    for configuration in planned.configurations.values():
        topology, gib = configuration.topology, step_gib(planned, configuration)
        table.add_row(
            configuration.name,
            _times(configuration.spacing_mm, ".2f"),
            _times(configuration.patch_size),
            str(configuration.batch_size),
            f"{topology.features[0]} to {max(topology.features)}",
            str(topology.stages),
            f"{parameters(planned, configuration) / 1e6:.2f} M",
            *([] if gib is None else [f"{gib:.1f}"]),
        )
    memory = f", {planned.memory_gib:g} GiB" if planned.memory_gib is not None else ""
    line(f"{planned.dataset}: {planned.training_cases} cases, planned for {planned.device}{memory}")
    _console().print(table)
    for note in result.notes:
        line(note)
    line(f"plan, with the reason for each decision -> {result.path}")


def reasons(planned: Plan) -> None:
    """Every decision with its numbers, configuration by configuration."""
    from nnlite.planning.cost import step_gib, step_multiplications

    for what, why in planned.reasons.items():
        line(f"{what}: {why}")
    for name, configuration in planned.configurations.items():
        line(f"\n{name}")
        for what, why in configuration.reasons.items():
            line(f"  {what}: {why}")
        gib = step_gib(planned, configuration)
        memory = "" if gib is None else f", about {gib:.1f} GiB by nnU-Net's estimate (not measured)"
        billions = step_multiplications(planned, configuration) / 1e9
        line(f"  a training step: {billions:.3g} billion multiplications{memory}")


def training(results: Sequence[TrainResult]) -> None:
    """How each fold ended."""
    for result in results:
        score = (
            "no held-out cases to score"
            if result.mean_dice is None
            else f"mean Dice {fraction(result.mean_dice)} on the held-out cases"
        )
        lasted = f"trained for {words_for_seconds(result.training_s)}"
        before = ", finished before and left as it was" if result.skipped else ""
        line(f"{result.configuration} {result.fold}: {score}, {lasted}{before} -> {result.folder}")


def prediction(result: PredictResult, output: Path) -> None:
    """How many masks were written, by what, how fast, and where."""
    seconds = result.seconds_per_case
    mean = f", {words_for_seconds(sum(seconds) / len(seconds))} per case" if seconds else ""
    masks = "1 mask" if len(result.masks) == 1 else f"{len(result.masks)} masks"
    line(f"{result.configuration} {' + '.join(result.folds)}: {masks}{mean} -> {output}")


def scores(result: Scores, output: Path | None) -> None:
    """Means over the cases, label by label, and over the labels."""
    summary = result.summary()
    table = _table("label", "cases", "Dice", "median", "IoU", "sensitivity", "precision", "true ml", "found ml")
    for name, label in summary.labels.items():
        ratios = (label.dice.mean, label.dice.median, label.iou.mean, label.sensitivity.mean, label.precision.mean)
        volumes = (label.truth_ml.mean, label.prediction_ml.mean)
        table.add_row(name, str(label.cases), *map(fraction, ratios), *map(_millilitres, volumes))
    mean = summary.foreground
    table.add_row(
        *("mean of labels", str(summary.cases), fraction(mean["dice"]), ""),
        *(fraction(mean[name]) for name in ("iou", "sensitivity", "precision")),
    )
    _console().print(table)
    line(f"mean Dice {fraction(result.mean_dice)} over {summary.cases} cases" + (f" -> {output}" if output else ""))


def demo(made: Demo) -> None:
    """Where everything lies, and what to look at first."""
    table = _table("what", "where")
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
    line(f"\nThe demo is done. Everything lies below {made.folder.absolute()}\n")
    _console().print(table)


def _table(first: str, *others: str) -> Table:
    """A table that fits 80 columns; where that is too narrow, names in the first one fold and numbers stay whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for header in others:
        table.add_column(header, no_wrap=True)
    return table


def _millilitres(volume: float | None) -> str:
    return "-" if volume is None or math.isnan(volume) else f"{volume:.1f}"


def _times(values: Sequence[float], form: str = "") -> str:
    return "x".join(format(value, form) for value in values)

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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from nnlite.training.curves import EpochRecord

WIDTH_WITHOUT_TERMINAL = 120  # as wide as the tables get; a pipe has no width of its own
SECONDS_BETWEEN_LINES = 10.0  # of a training that writes into a log file


@dataclass(slots=True)
class Speaker:
    """Who speaks here, of several processes that work together; with ``errors_only`` nothing else is shown."""

    name: str = ""
    errors_only: bool = False


SPEAKER = Speaker()


def console(*, stderr: bool = False) -> Console:
    """A console for the stream as it is now: made afresh, because tests and pagers exchange streams."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, width=width, highlight=False, emoji=False)


def speak_as(name: str, *, errors_only: bool) -> None:
    """From now on errors name this process, and other things are shown unless ``errors_only``."""
    SPEAKER.name, SPEAKER.errors_only = name, errors_only


def line(text: str) -> None:
    """One line on stdout, never wrapped, so that paths can be copied."""
    if SPEAKER.errors_only:
        return
    console().print(text, markup=False, soft_wrap=True)


def command_line(words: Sequence[str]) -> None:
    """A command as its user would type it."""
    console().print(f"\n$ {shlex.join(words)}", markup=False, soft_wrap=True, style="bold")


def warn(text: str) -> None:
    """A remark on stderr."""
    if SPEAKER.errors_only:
        return
    console(stderr=True).print(text, markup=False, soft_wrap=True, style="yellow")


def error(text: str) -> None:
    """What went wrong and the way out, on stderr."""
    who = f" in {SPEAKER.name}" if SPEAKER.name else ""
    console(stderr=True).print(f"error{who}: {text}", markup=False, soft_wrap=True, style="red")


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
    terminal = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[detail]}"))
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as bars:
        yield ProgressBars(bars)


def table(first: str, *others: str) -> Table:
    """A table that fits 80 columns; where that is too narrow, names in the first one fold and numbers stay whole."""
    columns = Table(box=None, pad_edge=False, header_style="bold")
    columns.add_column(first, overflow="fold")
    for header in others:
        columns.add_column(header, no_wrap=True)
    return columns


def interval(ends: tuple[float, float] | None, form: str) -> str:
    """The ends of an interval, each in this form; a dash where there is none.

    >>> interval((0.81, 0.853), "{:.2f}")
    '0.81 .. 0.85'
    """
    return "-" if ends is None else " .. ".join(form.format(end) for end in ends)

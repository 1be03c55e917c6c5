"""SIGTERM and Ctrl-C: how the system, a batch queue or a user ask a command to end, and what it then answers.

SIGTERM ends every command as calmly as Ctrl-C does. A training first finishes its step and saves its state; a second
Ctrl-C ends it at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from nnlite.cli import screen
from nnlite.errors import ProcessLostError, StoppedError

INTERRUPTED = 128 + signal.SIGINT  # 130 and 143: what shells report for these signals
TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM, where Ctrl-C would raise a ``KeyboardInterrupt``."""


class StopRequest:
    """Asked by calling it: whether a signal has come that asks to stop.

    ``impatient`` users press Ctrl-C once more to end at once; torchrun itself sends the signal twice.
    """

    def __init__(self, *, impatient: bool = True) -> None:
        self.signal: int | None = None
        self.impatient = impatient

    def __call__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        if number == signal.SIGINT and self.impatient:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            screen.warn("finishing the step and saving; Ctrl-C once more ends at once")
        self.signal = number

    def interruption(self, error: StoppedError) -> KeyboardInterrupt:
        """What to raise once all is saved."""
        return Terminated(str(error)) if self.signal == signal.SIGTERM else KeyboardInterrupt(str(error))


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise ``Terminated`` within the block."""
    with _handled({signal.SIGTERM: _terminate}):
        yield


@contextmanager
def stoppable(*, impatient: bool = True) -> Iterator[StopRequest]:
    """Let SIGTERM and the first Ctrl-C be requests within the block; a ``StoppedError`` then ends it as they would."""
    request = StopRequest(impatient=impatient)
    with _handled({signal.SIGTERM: request.receive, signal.SIGINT: request.receive}):
        try:
            yield request
        except StoppedError as error:
            raise request.interruption(error) from None
        except ProcessLostError as error:
            if not request():
                raise
            raise request.interruption(StoppedError(str(error))) from None  # asked to stop as well, and gone first


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


@contextmanager
def _handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    """Handle signals so within the block; only the main thread may, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

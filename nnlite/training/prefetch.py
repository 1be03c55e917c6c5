"""Prepare batches in a thread while the device trains on the one before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")


def prefetch(make: Callable[[], T], count: int, *, depth: int = 2) -> Generator[T, None, None]:
    """Yield ``count`` results of ``make``, made one after the other in a thread that is at most ``depth`` ahead.

    An error in ``make`` is raised here, as it was. Leaving early ends the thread.

    >>> numbers = iter(range(5))
    >>> list(prefetch(lambda: next(numbers), 3))
    [0, 1, 2]
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        for _ in range(count):
            if stop.is_set():
                return
            try:
                item: tuple[T | None, BaseException | None] = (make(), None)
            except BaseException as error:
                item = (None, error)
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if item[1] is not None:
                return

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        for _ in range(count):
            result, error = ready.get()
            if error is not None:
                raise error
            yield result  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()

"""Let the cores of a CPU work on several things at once, each with its share of torch's threads.

Torch splits every operation between its threads, which wait for each other after each: for windows of a network and for
slabs that are restored, that is hundreds of times a second. Two of them in a thread of Python each keep two cores
busier than one in two threads of torch, and where another program takes a part of one core they lose that part, not
most of the time (docs/decisions/cpu-windows.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class OrderedMap(Protocol):
    """What ``map`` does: answers in the order of the items."""

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """The answers of ``work`` to the items."""


@contextmanager
def side_by_side(count: int) -> Iterator[OrderedMap]:
    """A ``map`` that is at work on ``count`` items at a time, ahead of the one that is asked for.

    ``work`` runs in other threads: inference mode and autocast, which belong to a thread, are for it to enter. What it
    raises comes out where its answer would. A single item at a time is worked on where it is asked for.
    """
    if count <= 1:
        yield map
        return
    threads = torch.get_num_threads()
    begun = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # when first asked in a thread, torch gives it what was set last, anywhere
        torch.set_num_threads(max(1, threads // count))
        begun.wait()

    with ThreadPoolExecutor(max_workers=count, thread_name_prefix="side-by-side") as pool:
        for _ in range(count):
            pool.submit(begin)
        begun.wait()
        torch.set_num_threads(threads)  # for the threads of others that begin later

        def ordered(work: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
            coming: deque[Future[R]] = deque()
            for item in items:
                coming.append(pool.submit(work, item))
                if len(coming) > count:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

        yield ordered

"""Prepare batches in threads while the device trains on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

READY = 2  # results that wait beside those in the making: enough to bridge a slow one


def prefetch(make: Callable[[int], T], count: int, *, threads: int = 1) -> Generator[T, None, None]:
    """Yield ``make(0)``, ``make(1)``, ... up to ``count`` results, in this order, made ahead in ``threads`` threads.

    ``make`` is called in several threads at a time, and must give the same for the same number whatever came before.
    At most ``threads + READY`` results are made ahead. An error in ``make`` is raised here, as it was. Leaving early
    ends the threads.

    >>> list(prefetch(lambda number: number**2, 4, threads=2))
    [0, 1, 4, 9]
    """
    ahead = threads + READY
    cores = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch", initializer=_one_core)
    pending: deque[Future[T]] = deque()
    try:
        pending.extend(pool.submit(make, number) for number in range(min(ahead, count)))
        for number in range(count):
            result = pending.popleft().result()
            if number + ahead < count:
                pending.append(pool.submit(make, number + ahead))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(cores)  # _one_core also decided for threads that begin later, whoever starts them


def _one_core() -> None:
    """Keep the tensor operations of this thread to one core: the others belong to the other threads and the step."""
    torch.set_num_threads(1)

"""Batches are made ahead in a thread that gives its errors away and ends when it is left."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from nnlite.training.prefetch import prefetch


def prefetching() -> bool:
    return any(thread.name == "prefetch" for thread in threading.enumerate())


def test_results_come_in_order_and_no_more_than_asked_for() -> None:
    numbers = itertools.count()
    assert list(prefetch(lambda: next(numbers), 20)) == list(range(20))
    assert next(numbers) == 20
    assert not prefetching()


def test_results_are_made_while_the_caller_is_busy_but_not_too_far_ahead() -> None:
    numbers = itertools.count()
    source = prefetch(lambda: next(numbers), 100, depth=2)
    next(source)
    time.sleep(0.3)
    made = next(numbers)
    source.close()
    assert 2 <= made <= 4  # one taken, two ready, one in hand


def test_an_error_of_the_worker_is_raised_as_it_was() -> None:
    class BrokenImageError(Exception):
        pass

    results = iter([1, BrokenImageError("case_7")])

    def make() -> int:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    source = prefetch(make, 5)
    assert next(source) == 1
    with pytest.raises(BrokenImageError, match="case_7"):
        next(source)
    assert not prefetching()


def test_leaving_early_ends_the_thread() -> None:
    source = prefetch(lambda: 1, 1000)
    next(source)
    assert prefetching()
    source.close()
    assert not prefetching()

"""Results are made ahead in threads, come in order whoever is faster, and no thread outlives its use."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from nnlite.training.prefetch import READY, prefetch


def prefetching() -> bool:
    return any(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_each_of_them_once(threads: int) -> None:
    made = []

    def make(number: int) -> int:
        time.sleep(0.01 * (number % 3 == 0))  # some take longer than those after them
        made.append(number)
        return number

    assert list(prefetch(make, 20, threads=threads)) == list(range(20))
    assert sorted(made) == list(range(20))
    assert not prefetching()


def test_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)
    assert len(list(prefetch(lambda _: meeting.wait(), 2, threads=2))) == 2  # alone either would wait for ever


def test_results_are_made_while_the_caller_is_busy_but_not_too_far_ahead() -> None:
    made = []
    source = prefetch(made.append, 100, threads=2)
    next(source)
    time.sleep(0.3)
    assert len(made) == 1 + 2 + READY  # the one that was taken, and those ahead
    source.close()


def test_an_error_of_a_worker_is_raised_as_it_was_after_the_results_before_it() -> None:
    class BrokenImageError(Exception):
        pass

    def make(number: int) -> int:
        if number == 1:
            raise BrokenImageError("case_7")
        return number

    source = prefetch(make, 5, threads=2)
    assert next(source) == 0
    with pytest.raises(BrokenImageError, match="case_7"):
        next(source)
    assert not prefetching()


def test_leaving_early_ends_the_threads() -> None:
    source = prefetch(lambda number: number, 1000, threads=2)
    next(source)
    assert prefetching()
    source.close()
    assert not prefetching()


def test_nothing_asked_nothing_made() -> None:
    assert list(prefetch(lambda number: 1 / 0, 0)) == []


def test_a_worker_computes_on_one_core_and_nobody_else_is_bound_by_that() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(prefetch(lambda _: torch.get_num_threads(), 3, threads=2)) == [1, 1, 1]
        assert torch.get_num_threads() == 2
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(before)

"""Items are worked on side by side, and the answers come in their order."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier, Thread, get_ident

import pytest
import torch

from nnlite.preprocessing.side_by_side import side_by_side


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_two_items_are_under_way_at_once_and_their_answers_come_in_order() -> None:
    both_there = Barrier(2)

    def meet(item: int) -> tuple[int, int]:
        both_there.wait(timeout=20)  # breaks where one item alone is under way
        return item, get_ident()

    with side_by_side(2) as ordered_map:
        answers = list(ordered_map(meet, range(6)))
    assert [item for item, _ in answers] == list(range(6))
    assert get_ident() not in {thread for _, thread in answers}


def test_no_more_is_begun_than_the_threads_can_work_on_and_one_ahead() -> None:
    begun = []
    with side_by_side(2) as ordered_map:
        answers = ordered_map(begun.append, iter(range(50)))
        next(answers)
        assert len(begun) <= 3


def test_one_item_at_a_time_is_worked_on_where_it_is_asked_for() -> None:
    with side_by_side(1) as ordered_map:
        assert list(ordered_map(lambda _: get_ident(), range(2))) == [get_ident()] * 2


@pytest.mark.usefixtures("four_threads")
def test_threads_share_those_of_torch_and_leave_those_of_others_alone() -> None:
    with side_by_side(2) as ordered_map:
        assert list(ordered_map(lambda _: torch.get_num_threads(), range(4))) == [2] * 4
        assert torch.get_num_threads() == 4
        later = []
        thread = Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert later == [4]


def test_what_is_raised_comes_out_where_the_answer_would() -> None:
    with side_by_side(2) as ordered_map:
        answers = ordered_map(lambda item: 6 // item, [2, 0, 1])
        assert next(answers) == 3
        with pytest.raises(ZeroDivisionError):
            next(answers)

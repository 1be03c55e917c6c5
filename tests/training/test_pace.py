"""Processes keep to the time and the requests that they saw together; one alone sees them as they are."""

from __future__ import annotations

from nnlite.training.pace import Pace
from nnlite.training.ranks import Ranks


class Following(Ranks):
    """The second of two processes; the first one's clock says 100 s more, and it was asked to stop at 103 s."""

    def agree(self, time_s: float, stop: bool) -> tuple[float, bool]:
        return time_s + 100, stop or time_s + 100 >= 103


def test_alone_time_and_requests_are_those_of_the_moment():
    now = [1.0]
    pace = Pace(Ranks(), lambda: now[0] > 2, clock=lambda: now[0])
    assert (pace.time_s(), pace.stop()) == (1.0, False)
    now[0] = 3.0
    assert (pace.time_s(), pace.stop()) == (3.0, True)


def test_together_they_change_only_when_all_look():
    now = [1.0]
    pace = Pace(Following(1, 2), lambda: False, clock=lambda: now[0])
    assert (pace.time_s(), pace.stop()) == (101.0, False)
    now[0] = 4.0
    assert (pace.time_s(), pace.stop()) == (101.0, False)
    pace.look()
    assert (pace.time_s(), pace.stop()) == (104.0, True)

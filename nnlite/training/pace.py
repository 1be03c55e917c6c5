"""What processes that train together must see alike: what time it is, and whether one of them was asked to stop.

Learning rate and end of a training may depend on the clock, and signals arrive when they like; were each process to ask
for itself, one would go on where another ends. So they look together, between two steps, and keep to what they saw.
One process alone asks whenever it wants to know.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nnlite.training.ranks import Ranks


class Pace:
    """A clock and a request to stop that are the same for all processes between two calls of ``look``."""

    def __init__(self, ranks: Ranks, stop: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic):
        self._ranks, self._stop, self._clock = ranks, stop, clock
        self._seen = (clock(), False)
        self.look()

    def look(self) -> None:
        """See anew, all processes together."""
        if self._ranks.count > 1:
            self._seen = self._ranks.agree(self._clock(), self._stop())

    def time_s(self) -> float:
        """Seconds by the clock of the first process."""
        return self._clock() if self._ranks.count == 1 else self._seen[0]

    def stop(self) -> bool:
        """Whether a process was asked to stop."""
        return self._stop() if self._ranks.count == 1 else self._seen[1]

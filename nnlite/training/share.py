"""The share of a batch that one of several processes has; a process alone has the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The samples ``first`` to ``stop`` - 1 of a batch of ``samples``.

    Random numbers are drawn for the whole batch, so that a sample is the same whoever makes it.
    """

    first: int
    stop: int
    samples: int

    @classmethod
    def whole(cls, samples: int) -> Share:
        """All of a batch."""
        return cls(first=0, stop=samples, samples=samples)

    @property
    def fraction(self) -> float:
        """How much of the batch this is."""
        return (self.stop - self.first) / self.samples

    def has(self, rows: np.ndarray) -> np.ndarray:
        """For each of these rows of the batch, whether it is at hand.

        >>> Share(first=2, stop=4, samples=6).has(np.array([0, 3, 5]))
        array([False,  True, False])
        """
        return (rows >= self.first) & (rows < self.stop)

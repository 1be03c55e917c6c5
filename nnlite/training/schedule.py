"""How far a training is, how fast it learns there, and when it will end.

The learning rate falls polynomially (exponent 0.9, as in nnU-Net) with the share of the training that is done. That
share is counted in epochs, or, under a time budget, in seconds: then the schedule fits the time on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nnlite.training.config import TrainConfig


class Schedule:
    """The clock of one training. ``elapsed_s`` is the time that earlier sittings of it have taken."""

    def __init__(self, config: TrainConfig, *, elapsed_s: float = 0.0, clock: Callable[[], float] = time.monotonic):
        self.config, self._clock = config, clock
        self._started = clock() - elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far."""
        return self._clock() - self._started

    def share_done(self, epoch: int) -> float:
        """Share of the training that lies behind the start of ``epoch`` (under a time budget: this moment)."""
        if self.config.time_budget_s is not None:
            return self.elapsed_s / self.config.time_budget_s
        return epoch / self.config.epochs

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of this moment."""
        remaining = max(0.0, 1 - self.share_done(epoch))
        return self.config.learning_rate * remaining**self.config.decay_exponent

    def finished(self, epoch: int) -> bool:
        """Whether no further iteration belongs to the training."""
        return self.share_done(epoch) >= 1

    def remaining_s(self, epoch: int) -> float:
        """Seconds until the end, judged by the time the first ``epoch`` epochs took."""
        if self.config.time_budget_s is not None:
            return max(0.0, self.config.time_budget_s - self.elapsed_s)
        return max(0, self.config.epochs - epoch) * self.elapsed_s / max(epoch, 1)

    def foreseen_epochs(self, epoch: int) -> int:
        """Number of epochs the whole training will have."""
        if self.config.time_budget_s is None:
            return self.config.epochs
        return epoch + round(self.remaining_s(epoch) * epoch / self.elapsed_s)

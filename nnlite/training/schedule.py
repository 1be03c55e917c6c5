"""How far a training is, how fast it learns there, and when it will end.

The learning rate falls with the share of the training that is done: polynomially (exponent 0.9, as in nnU-Net), as half
a wave of a cosine (Loshchilov and Hutter, ICLR 2017, without restarts), or in two steps (He et al., CVPR 2016). That
share is counted in epochs, or, under a time budget, in seconds: then the schedule fits the time on any machine. On a
plateau of the pseudo Dice it falls whenever that no longer rises, whatever the share (as in nnU-Net's first version,
arXiv 1809.10486, with its training loss).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from nnlite.training.config import TrainConfig

STEPS_AT = (0.5, 0.75)  # shares of the training at which the rate of "step" is divided, as in He et al.
STEP_FACTOR = 0.1  # what is left of it each time
PLATEAU_EPOCHS = 10  # without a better pseudo Dice, after which the rate of "plateau" falls
PLATEAU_FACTOR = 0.2  # what is left of it: nnU-Net's factor


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

    def learning_rate(self, epoch: int, *, drops: int = 0) -> float:
        """The learning rate of this moment, when the plateau has made it fall ``drops`` times."""
        done = self.share_done(epoch)
        return self.config.learning_rate * self._fallen(done, drops) * self._risen(epoch, done)

    def _fallen(self, done: float, drops: int) -> float:
        """What is left of the learning rate."""
        remaining = max(0.0, 1 - done)
        match self.config.schedule:
            case "polynomial":
                return remaining**self.config.decay_exponent
            case "cosine":
                return (1 - math.cos(math.pi * remaining)) / 2
            case "step":
                return STEP_FACTOR ** sum(done >= step for step in STEPS_AT)
            case "plateau":
                return PLATEAU_FACTOR**drops
            case "constant":
                return 1.0

    def _risen(self, epoch: int, done: float) -> float:
        """How far the learning rate has risen in the warm-up, whose epochs are all below the full rate."""
        length = self.config.warm_up
        if length < 1:
            if self.config.time_budget_s is not None:
                return min(1.0, done / length) if length else 1.0
            length *= self.config.epochs
        return min(1.0, (epoch + 1) / (length + 1))

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

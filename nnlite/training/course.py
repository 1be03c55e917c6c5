"""How far a training has come, and when that is written down.

A course is what a resumed training must know besides weights and optimiser. It is saved after every epoch, every few
minutes within one, and when the training is asked to stop. Random numbers need no place in it: each batch is a function
of seed, epoch and its number in the epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

SAVE_EVERY_S = 300.0  # what a power cut may cost; a save takes seconds at most
MOVING_AVERAGE = 0.9  # weight of the past in the moving average of the pseudo Dice


@dataclass(slots=True, kw_only=True)
class Course:
    """Finished epochs, and how much of the next one is done: its steps, their summed loss, its seconds.

    ``steps`` counts all steps of the epoch so far, ``skipped`` those of them whose loss was no number. ``best_epoch``
    had the best moving pseudo Dice; ``drops`` is how often the learning rate fell since that no longer rose, last at
    the end of ``dropped_epoch``.
    """

    epoch: int = 0
    elapsed_s: float = 0.0
    moving_dice: float | None = None
    best_dice: float | None = None
    best_epoch: int = 0
    drops: int = 0
    dropped_epoch: int = 0
    steps: int = 0
    skipped: int = 0
    loss_sum: float = 0.0
    trained_s: float = 0.0
    waited_s: float = 0.0

    def follow(self, dice: float | None) -> bool:
        """Take in the pseudo Dice of an epoch; True if the moving average is the best so far."""
        if dice is None:
            return False
        past = self.moving_dice
        self.moving_dice = dice if past is None else MOVING_AVERAGE * past + (1 - MOVING_AVERAGE) * dice
        if self.best_dice is not None and self.moving_dice <= self.best_dice:
            return False
        self.best_dice, self.best_epoch = self.moving_dice, self.epoch
        return True

    def drop_if_stale(self, epochs: int) -> None:
        """Note at the end of an epoch that the learning rate is to fall, if nothing was better for so many epochs."""
        if self.epoch - max(self.best_epoch, self.dropped_epoch) >= epochs:
            self.drops, self.dropped_epoch = self.drops + 1, self.epoch

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether so many epochs, the last of them finished, were not better than the best."""
        return patience is not None and self.epoch - 1 - self.best_epoch >= patience

    def next_epoch(self) -> None:
        """Close the epoch."""
        self.epoch += 1
        self.steps = self.skipped = 0
        self.loss_sum = self.trained_s = self.waited_s = 0.0


class Saver:
    """Decides when a state is saved: ``save`` is called where the training can go on from."""

    def __init__(
        self,
        save: Callable[[], None],
        *,
        stop: Callable[[], bool],
        every_s: float = SAVE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._save, self._stop, self._every_s, self._clock = save, stop, every_s, clock
        self._saved_s = clock()

    def save(self) -> None:
        """Save now."""
        self._save()
        self._saved_s = self._clock()

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return self._clock() - self._saved_s >= self._every_s

    def asked_to_stop(self) -> bool:
        """Whether the training is to end where it is."""
        return self._stop()

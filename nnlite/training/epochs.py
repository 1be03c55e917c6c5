"""The epochs of a training: steps, then a look at validation patches, then what the log says of both.

Whatever ends an epoch early (the clock, a request to stop) is asked of ``Pace``, so that processes which train together
end it after the same step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import torch

from nnlite.errors import NnliteError, StoppedError
from nnlite.training.batches import BatchSource
from nnlite.training.course import Course, Saver
from nnlite.training.curves import EpochRecord
from nnlite.training.learner import Learner, pseudo_dice
from nnlite.training.pace import Pace
from nnlite.training.schedule import PLATEAU_EPOCHS, Schedule

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sitting:
    """One call of ``train``: who learns, from what, how far it is, and when it ends."""

    learner: Learner
    batches: BatchSource
    schedule: Schedule
    course: Course
    pace: Pace
    saver: Saver
    title: str
    structures: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether no further epoch belongs to the training."""
        course, patience = self.course, self.schedule.config.patience
        return self.schedule.finished(course.epoch) or course.out_of_patience(patience)

    def learning_rate(self) -> float:
        """The learning rate of this moment."""
        return self.schedule.learning_rate(self.course.epoch, drops=self.course.drops)

    def stop_if_asked(self) -> None:
        """Raise ``StoppedError``, with everything saved, if the training was asked to stop."""
        if self.saver.asked_to_stop():
            self.saver.save()
            self.learner.ranks.meet()  # who ends first may have the others ended, too: not before all is saved
            done = f"{self.course.epoch} epochs" + (f" and {self.course.steps} steps" if self.course.steps else "")
            raise StoppedError(f"{self.title} was stopped after {done}, and is saved")


def run_epochs(sitting: Sitting) -> Iterator[tuple[EpochRecord, bool]]:
    """Run epoch after epoch to the end of the schedule; what an epoch gave is to be written down by who asks for it."""
    while sitting.course.steps or not sitting.finished:  # an epoch that was cut short is closed
        yield _run_epoch(sitting)
        if not sitting.finished:
            sitting.stop_if_asked()
    _tell_what_was_cut_off(sitting)


def _tell_what_was_cut_off(sitting: Sitting) -> None:
    """Warn where time or patience ended before the beginning of the training did."""
    learner, config, epochs = sitting.learner, sitting.schedule.config, sitting.course.epoch
    ended = f"{sitting.title} ended after {epochs} epochs"
    if learner.frozen and epochs <= config.freeze_encoder and learner.ranks.leads:
        logger.warning(
            "%s, and --freeze-encoder %d held the encoder for all of them: give it more time, or hold it for fewer",
            ended,
            config.freeze_encoder,
        )
    if 1 <= config.warm_up > epochs - 1 and learner.ranks.leads:
        logger.warning(
            "%s, and with --warm-up %g none of them had the full learning rate: give it more time, or warm up for a "
            "part of the training, as 10%%",
            ended,
            config.warm_up,
        )


def _run_epoch(sitting: Sitting) -> tuple[EpochRecord, bool]:
    """Train and validate for one epoch; moves the course on. Also tells whether the epoch is the best so far."""
    schedule, course = sitting.schedule, sitting.course
    rate = sitting.learning_rate()
    train_loss = _train_epoch(sitting)
    started = time.perf_counter()
    validation_loss, dice = _validate_epoch(sitting)
    known = [score for score in dice if score is not None]
    mean_dice = sum(known) / len(known) if known else None
    trained_s, waited_s, skipped = course.trained_s, course.waited_s, course.skipped
    improved = course.follow(mean_dice)
    if schedule.config.schedule == "plateau":
        course.drop_if_stale(PLATEAU_EPOCHS)
    course.next_epoch()
    course.elapsed_s = schedule.elapsed_s
    record = EpochRecord(
        epoch=course.epoch - 1,
        epochs=schedule.foreseen_epochs(course.epoch),
        learning_rate=rate,
        train_loss=train_loss,
        validation_loss=validation_loss,
        pseudo_dice=dice,
        mean_pseudo_dice=mean_dice,
        moving_pseudo_dice=course.moving_dice,
        duration_s=trained_s + time.perf_counter() - started,
        elapsed_s=course.elapsed_s,
        data_wait_share=waited_s / trained_s,
        eta_s=schedule.remaining_s(course.epoch),
        skipped_steps=skipped,
    )
    return record, improved


def _train_epoch(sitting: Sitting) -> float:
    """Run the iterations of one epoch that are still to be done; returns the mean loss of all that count."""
    learner, schedule, course = sitting.learner, sitting.schedule, sitting.course
    epoch, where = course.epoch, f"{sitting.title} epoch {course.epoch}"
    limited = schedule.config.time_budget_s is not None
    learner.network.train()
    learner.hold_encoder(epoch)
    total = torch.tensor(course.loss_sum, dtype=torch.float32, device=learner.device)
    count = course.steps if limited and schedule.finished(epoch) and course.steps else schedule.config.iterations
    done = [schedule.share_done(epoch)]
    with closing(sitting.batches.training_batches(epoch, count, first=course.steps, share_done=done)) as source:
        asked = time.perf_counter()
        for batch in source:  # whatever happens, the threads of the source end
            got = time.perf_counter()
            learner.share_done = schedule.share_done(epoch)
            total += learner.step(batch, sitting.learning_rate(), number=course.steps)
            course.steps += 1
            sitting.pace.look()
            done.append(schedule.share_done(epoch))
            if learner.skipped.due:
                course.skipped += learner.look_for_skipped(where)
            now = time.perf_counter()
            course.waited_s, course.trained_s, asked = (
                course.waited_s + got - asked,
                course.trained_s + now - asked,
                now,
            )
            if limited and schedule.finished(epoch):
                break  # the time is up in the middle of an epoch
            if course.steps < count and (sitting.saver.due() or sitting.saver.asked_to_stop()):
                course.loss_sum = float(total)
                sitting.stop_if_asked()
                sitting.saver.save()
    course.skipped += learner.look_for_skipped(where)
    course.loss_sum = float(total)
    counting = course.steps - course.skipped
    if counting == 0:
        raise NnliteError(
            f"no step of epoch {epoch} had a loss that is a number: look at the images for absurd intensities, or "
            "begin anew with another --seed; the epochs before it are kept"
        )
    return course.loss_sum / counting


def _validate_epoch(sitting: Sitting) -> tuple[float | None, tuple[float | None, ...]]:
    """Mean loss, and pseudo Dice of each structure, over patches of the validation cases.

    A training that is asked to stop meanwhile looks at all of them again when it goes on.
    """
    learner, batches, epoch = sitting.learner, sitting.batches, sitting.course.epoch
    learner.shown.eval()
    learner.share_done = sitting.schedule.share_done(epoch)
    total, done = torch.zeros((), device=learner.device), 0
    counts = torch.zeros(3, len(sitting.structures), dtype=torch.int64, device=learner.device)
    with closing(batches.validation_batches(epoch, learner.config.validation_iterations)) as source:
        for batch in source:
            loss, overlap = learner.look(batch)
            total += loss
            counts += overlap
            done += 1
            sitting.pace.look()
            sitting.stop_if_asked()
    counts = learner.ranks.total(counts)
    return (float(total) / done if done else None), pseudo_dice(counts)

"""Tell other programs how a training does: the small interface behind TensorBoard, MLflow, W&B and a caller's own.

log.jsonl is always written, and trackers are fed from it: they get the same numbers, in its order, and none twice. How
far each of them has come is kept beside the log, so that a resumed training goes on in the same place and hands over
what a tracker has missed. A tracker that fails is told of once; it never stops a training.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from nnlite.data.records import read_record, record, write_record
from nnlite.training.curves import EpochRecord, read_log

NO_METRICS = ("epoch", "epochs", "pseudo_dice")  # the step, the length of the training, and what is split up by label

logger = logging.getLogger(__name__)

Setting = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """What a tracker is told before the first epoch.

    ``folder`` is the dataset's own for files of trackers; ``settings`` are those of plan and training. ``run_id`` is
    what the tracker's ``start`` returned in an earlier sitting, None in the first one; ``epochs`` is how many it has
    taken since.
    """

    dataset: str
    configuration: str
    fold: str
    folder: Path
    settings: Mapping[str, Setting]
    run_id: str | None = None
    epochs: int = 0

    @property
    def name(self) -> str:
        """What the run is called among those of its dataset, e.g. "3d fold0"."""
        return f"{self.configuration} {self.fold}"


class Tracker(Protocol):
    """Takes in the course of one training after the other. Any method may raise: the training goes on without it."""

    @property
    def name(self) -> str:
        """One word; the same in every sitting."""

    def start(self, run: TrackedRun) -> str | None:
        """Begin a training, or go on with one; returns by which name it is found again, if it needs one."""

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Take in an epoch; numbers begin with 0 and go up by one."""

    def scores(self, number: int, metrics: Mapping[str, float]) -> None:
        """Take in the scores of the held-out cases, after the last epoch, ``number``."""

    def end(self, *, finished: bool) -> None:
        """Let go of the training; ``finished`` is False where it was interrupted."""


@record
class TrackerState:
    """How far a tracker has come with a training: its own name for it, and the epochs it has taken in."""

    run_id: str | None
    epochs: int


@record
class TrackingState:
    """Every tracker that has seen a training."""

    trackers: dict[str, TrackerState]


@dataclass(slots=True, kw_only=True)
class _Follower:
    """A tracker, and how it stands with the training of this sitting."""

    tracker: Tracker
    run: TrackedRun
    started: bool = False
    failed: bool = False


class Tracking:
    """All trackers of one training; ``log`` is its log.jsonl, ``state`` the file that tells how far each has come."""

    def __init__(
        self, trackers: Sequence[Tracker], run: TrackedRun, *, labels: Sequence[str], log: Path, state: Path
    ) -> None:
        self._labels, self._log, self._state = labels, log, state
        known = read_record(state, TrackingState).trackers if trackers and state.exists() else {}
        self._others = known  # of trackers that this sitting goes without
        self._followers = []
        for tracker in trackers:
            before = known.get(tracker.name, TrackerState(run_id=None, epochs=0))
            at_hand = replace(run, run_id=before.run_id, epochs=before.epochs)
            self._followers.append(_Follower(tracker=tracker, run=at_hand))

    def epoch(self, newest: EpochRecord) -> None:
        """Hand on an epoch that is in the log already, and those before it that a tracker has missed."""
        for follower in self._followers:
            if not follower.failed:
                missing = [newest] if follower.run.epochs == newest.epoch else read_log(self._log)
                self._feed(follower, missing, {})

    def finish(self, scores: Mapping[str, float]) -> None:
        """Hand on the scores of the held-out cases, if any; who failed before is tried once more, with all epochs."""
        for follower in self._followers:
            self._feed(follower, read_log(self._log), scores)

    def start(self) -> None:
        """Tell every tracker that the training begins."""
        for follower in self._followers:
            self._feed(follower, (), {})

    def end(self, *, finished: bool) -> None:
        """Tell every tracker that the training is over."""
        for follower in self._followers:
            if follower.started:
                try:
                    follower.tracker.end(finished=finished)
                except Exception as problem:
                    self._fail(follower, problem)

    def _feed(self, follower: _Follower, epochs: Sequence[EpochRecord], scores: Mapping[str, float]) -> None:
        """Hand on those of these epochs that a tracker does not know, then the scores."""
        tracker = follower.tracker
        try:
            if not follower.started:
                follower.run = replace(follower.run, run_id=tracker.start(follower.run))
                follower.started = True
                self._remember()
            for one in epochs:
                if one.epoch >= follower.run.epochs:
                    tracker.epoch(one.epoch, epoch_metrics(one, self._labels))
                    follower.run = replace(follower.run, epochs=one.epoch + 1)
                    self._remember()
            if scores:
                tracker.scores(max(0, follower.run.epochs - 1), scores)
        except Exception as problem:  # whatever it is: hours of training are worth more than their record elsewhere
            self._fail(follower, problem)

    def _fail(self, follower: _Follower, problem: Exception) -> None:
        if not follower.failed:
            logger.warning(
                "%s: tracking with %s failed, and the training goes on without it (%s: %s); log.jsonl has every epoch",
                follower.run.name,
                follower.tracker.name,
                type(problem).__name__,
                problem,
            )
        follower.failed = True

    def _remember(self) -> None:
        ours = {
            one.tracker.name: TrackerState(run_id=one.run.run_id, epochs=one.run.epochs)
            for one in self._followers
            if one.started
        }
        write_record(self._state, TrackingState(trackers={**self._others, **ours}))


@contextmanager
def tracked(
    trackers: Sequence[Tracker], run: TrackedRun, *, labels: Sequence[str], log: Path, state: Path
) -> Iterator[Tracking]:
    """Track what happens in the block, which may raise: then the trackers are told that it was interrupted."""
    tracking = Tracking(trackers, run, labels=labels, log=log, state=state)
    tracking.start()
    finished = False
    try:
        yield tracking
        finished = True
    finally:
        tracking.end(finished=finished)


def epoch_metrics(epoch: EpochRecord, labels: Sequence[str]) -> dict[str, float]:
    """The numbers of a line of log.jsonl by their names there; ``pseudo_dice`` by label, e.g. "pseudo_dice/liver".

    What is None in the log is left out. ``labels`` are the structures in order.
    """
    numbers = {name: getattr(epoch, name) for name in EpochRecord.__dataclass_fields__ if name not in NO_METRICS}
    by_label = {f"pseudo_dice/{label}": dice for label, dice in zip(labels, epoch.pseudo_dice, strict=True)}
    return {name: float(value) for name, value in {**numbers, **by_label}.items() if value is not None}

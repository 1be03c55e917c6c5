"""Train one network on one fold: a loop that reads in the order things happen.

The method is nnU-Net's (Isensee et al., Nature Methods 18, 203-211, 2021): polynomial learning rate, deep supervision,
pseudo Dice over validation patches, the best model by its moving average. After every epoch, every few minutes within
one, and when it is asked to stop, all that a resumed training needs is written to disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from nnlite.errors import CheckpointError, NnliteError, StoppedError
from nnlite.networks.build import build_network
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.store import StoredCase
from nnlite.training.batches import THREADS, BatchSource
from nnlite.training.checkpoint import Checkpoint, ModelCard, save_model
from nnlite.training.config import TrainConfig
from nnlite.training.course import SAVE_EVERY_S, Course, Saver
from nnlite.training.curves import EpochRecord, append_to_log, plot_course, read_log, truncate_log
from nnlite.training.deterministic import deterministic_operations
from nnlite.training.learner import Learner, pseudo_dice
from nnlite.training.loss import Answer
from nnlite.training.schedule import Schedule
from nnlite.training.state_file import load_newest, save_state

PLOT_EVERY_S = 20.0  # drawing takes a third of a second, which short epochs would feel


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainFiles:
    """Where a training leaves its traces."""

    log: Path
    plot: Path
    best: Path
    last: Path
    previous: Path
    final: Path


def train(
    plan: Plan,
    configuration: Configuration,
    config: TrainConfig,
    *,
    fold: str,
    training_cases: Mapping[str, StoredCase],
    validation_cases: Mapping[str, StoredCase],
    files: TrainFiles,
    device: torch.device,
    resume: bool = False,
    initial: Mapping[str, Tensor] = MappingProxyType({}),
    transforms: Sequence[Callable[..., dict]] = (),
    threads: int = THREADS,
    on_epoch: Callable[[EpochRecord], None] = lambda epoch: None,
    save_every_s: float = SAVE_EVERY_S,
    stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Train until the schedule ends; the final model is returned, and lies at ``files.final``.

    Cases are preprocessed ones of ``configuration``. Without validation cases there is no pseudo Dice and no best
    model. ``on_epoch`` is called after each epoch, when everything of it is on disk. ``resume`` continues from
    ``files.last``, or from ``files.previous`` where that is damaged; otherwise weights that ``initial`` names take the
    place of those that are drawn. ``transforms`` are batchgenerators transforms of
    the caller's own that keep sizes; they are run on every training patch before the augmentation. ``threads`` prepare
    batches; their number changes no result. A state is saved after each epoch and every ``save_every_s`` within one.
    ``stop`` is asked after each step: when it says so, the state is saved and ``StoppedError`` raised.
    """
    torch.manual_seed(config.seed)
    learner = _new_learner(plan, configuration, config, device)
    if not resume:
        learner.network.load_state_dict(dict(initial), strict=False)
    course = _restored(files, learner) if resume else Course()
    truncate_log(files.log, course.epoch)
    batches = BatchSource(
        plan,
        configuration,
        training_cases,
        validation_cases,
        seed=config.seed,
        device=device,
        transforms=transforms,
        threads=threads,
    )
    schedule = Schedule(config, elapsed_s=course.elapsed_s)
    if config.compile == "auto":
        (sample,) = batches.training_batches(course.epoch, 1)
        learner.compile_if_faster(sample)

    def checkpoint() -> Checkpoint:
        name, axes = configuration.name, configuration.mirrored_axes
        card = ModelCard(plan=plan, configuration=name, fold=fold, epoch=course.epoch, mirror_axes=axes)
        return Checkpoint(card=card, weights=learner.network.state_dict())

    def save() -> None:
        course.elapsed_s = schedule.elapsed_s
        save_state(files.last, {**learner.state(), "course": asdict(course)}, previous=files.previous)

    title = f"{plan.dataset} {configuration.name} {fold}"
    saver = Saver(save, stop=stop, every_s=save_every_s)
    sitting = _Sitting(learner, batches, schedule, course, saver, title, plan.labels.structures)
    plotted_s = -PLOT_EVERY_S
    with deterministic_operations(config.deterministic):
        for record, improved in _epochs(sitting):
            append_to_log(files.log, record)
            if improved:
                save_model(files.best, checkpoint())
            saver.save()
            if schedule.elapsed_s - plotted_s > PLOT_EVERY_S or schedule.finished(course.epoch):
                plot_course(files.plot, read_log(files.log), labels=sitting.structures, title=sitting.title)
                plotted_s = schedule.elapsed_s
            on_epoch(record)

    save_model(files.final, checkpoint())
    return checkpoint()


@dataclass(frozen=True, slots=True)
class _Sitting:
    """One call of ``train``: who learns, from what, how far it is, and when it ends."""

    learner: Learner
    batches: BatchSource
    schedule: Schedule
    course: Course
    saver: Saver
    title: str
    structures: tuple[str, ...]

    def stop_if_asked(self) -> None:
        """Raise ``StoppedError``, with everything saved, if the training was asked to stop."""
        if self.saver.asked_to_stop():
            self.saver.save()
            done = f"{self.course.epoch} epochs" + (f" and {self.course.steps} steps" if self.course.steps else "")
            raise StoppedError(f"{self.title} was stopped after {done}, and is saved")


def _new_learner(plan: Plan, configuration: Configuration, config: TrainConfig, device: torch.device) -> Learner:
    network = build_network(plan, configuration).to(device)
    answer = Answer.to(plan.labels, device)
    return Learner(network, config, batch_dice=configuration.batch_dice, device=device, answer=answer)


def _restored(files: TrainFiles, learner: Learner) -> Course:
    """Bring the learner to where the training stopped, and tell how far that is."""
    path, state = load_newest(files.last, files.previous, learner.device)
    if path != files.last:
        files.last.unlink(missing_ok=True)  # damaged: it must not take the place of the good one
    try:
        learner.restore(state)
        return Course(**state["course"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} belongs to another plan or version ({error}); delete its folder to begin anew"
        ) from error


def _epochs(sitting: _Sitting) -> Iterator[tuple[EpochRecord, bool]]:
    """Run epoch after epoch to the end of the schedule; what an epoch gave is to be written down by who asks for it."""
    course, schedule = sitting.course, sitting.schedule
    while course.steps or not schedule.finished(course.epoch):  # an epoch that was cut short is closed
        yield _run_epoch(sitting)
        if not schedule.finished(course.epoch):
            sitting.stop_if_asked()


def _run_epoch(sitting: _Sitting) -> tuple[EpochRecord, bool]:
    """Train and validate for one epoch; moves the course on. Also tells whether the epoch is the best so far."""
    schedule, course = sitting.schedule, sitting.course
    rate = schedule.learning_rate(course.epoch)
    train_loss = _train_epoch(sitting)
    started = time.perf_counter()
    validation_loss, dice = _validate_epoch(sitting)
    known = [score for score in dice if score is not None]
    mean_dice = sum(known) / len(known) if known else None
    trained_s, waited_s, skipped = course.trained_s, course.waited_s, course.skipped
    improved = course.follow(mean_dice)
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


def _train_epoch(sitting: _Sitting) -> float:
    """Run the iterations of one epoch that are still to be done; returns the mean loss of all that count."""
    learner, schedule, course = sitting.learner, sitting.schedule, sitting.course
    epoch, where = course.epoch, f"{sitting.title} epoch {course.epoch}"
    limited = schedule.config.time_budget_s is not None
    learner.network.train()
    total = torch.tensor(course.loss_sum, dtype=torch.float32, device=learner.device)
    count = course.steps if limited and schedule.finished(epoch) and course.steps else schedule.config.iterations
    with closing(sitting.batches.training_batches(epoch, count, first=course.steps)) as source:
        asked = time.perf_counter()
        for batch in source:  # whatever happens, the threads of the source end
            got = time.perf_counter()
            total += learner.step(batch, schedule.learning_rate(epoch), number=course.steps)
            course.steps += 1
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


def _validate_epoch(sitting: _Sitting) -> tuple[float | None, tuple[float | None, ...]]:
    """Mean loss, and pseudo Dice of each structure, over patches of the validation cases.

    A training that is asked to stop meanwhile looks at all of them again when it goes on.
    """
    learner, batches, epoch = sitting.learner, sitting.batches, sitting.course.epoch
    learner.network.eval()
    total, done = torch.zeros((), device=learner.device), 0
    counts = torch.zeros(3, len(sitting.structures), dtype=torch.int64, device=learner.device)
    with closing(batches.validation_batches(epoch, learner.config.validation_iterations)) as source:
        for batch in source:
            loss, overlap = learner.look(batch)
            total += loss
            counts += overlap
            done += 1
            sitting.stop_if_asked()
    return (float(total) / done if done else None), pseudo_dice(counts)

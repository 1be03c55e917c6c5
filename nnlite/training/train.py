"""Train one network on one fold: a loop that reads in the order things happen.

The method is nnU-Net's (Isensee et al., Nature Methods 18, 203-211, 2021): polynomial learning rate, deep supervision,
pseudo Dice over validation patches, the best model by its moving average. After every epoch all that a resumed training
needs is on disk.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from nnlite.errors import CheckpointError, NnliteError
from nnlite.networks.build import build_network
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.store import StoredCase
from nnlite.training.batches import THREADS, BatchSource
from nnlite.training.checkpoint import Checkpoint, ModelCard, load_state, save_model, save_state
from nnlite.training.config import TrainConfig
from nnlite.training.curves import EpochRecord, append_to_log, plot_course, read_log, truncate_log
from nnlite.training.learner import Learner, pseudo_dice
from nnlite.training.loss import Answer
from nnlite.training.schedule import Schedule

PLOT_EVERY_S = 20.0  # drawing takes a third of a second, which short epochs would feel
MOVING_AVERAGE = 0.9  # weight of the past in the moving average of the pseudo Dice


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainFiles:
    """Where a training leaves its traces."""

    log: Path
    plot: Path
    best: Path
    last: Path
    final: Path


@dataclass(slots=True, kw_only=True)
class Course:
    """How far a training has come: what a resumed one must know besides weights and optimiser."""

    epoch: int = 0
    elapsed_s: float = 0.0
    moving_dice: float | None = None
    best_dice: float | None = None

    def follow(self, dice: float | None) -> bool:
        """Take in the pseudo Dice of an epoch; True if the moving average is the best so far."""
        if dice is None:
            return False
        past = self.moving_dice
        self.moving_dice = dice if past is None else MOVING_AVERAGE * past + (1 - MOVING_AVERAGE) * dice
        if self.best_dice is not None and self.moving_dice <= self.best_dice:
            return False
        self.best_dice = self.moving_dice
        return True


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
    transforms: Sequence[Callable[..., dict]] = (),
    threads: int = THREADS,
    on_epoch: Callable[[EpochRecord], None] = lambda epoch: None,
) -> Checkpoint:
    """Train until the schedule ends; the final model is returned, and lies at ``files.final``.

    Cases are preprocessed ones of ``configuration``. Without validation cases there is no pseudo Dice and no best
    model. ``on_epoch`` is called after each epoch, when everything of it is on disk. ``resume`` continues from
    ``files.last``. ``transforms`` are batchgenerators transforms of the caller's own that keep sizes; they are run on
    every training patch before the augmentation. ``threads`` prepare batches; their number changes no result.
    """
    torch.manual_seed(config.seed)
    learner = _new_learner(plan, configuration, config, device)
    course = _restored(files.last, learner) if resume else Course()
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
    structures = plan.labels.structures
    title, plotted_s = f"{plan.dataset} {configuration.name} {fold}", -PLOT_EVERY_S

    def checkpoint() -> Checkpoint:
        axes = tuple(range(configuration.topology.ndim))
        name = configuration.name
        card = ModelCard(plan=plan, configuration=name, fold=fold, epoch=course.epoch, mirror_axes=axes)
        return Checkpoint(card=card, weights=learner.network.state_dict())

    while not schedule.finished(course.epoch):
        record, improved = _run_epoch(learner, batches, schedule, course, structures)
        append_to_log(files.log, record)
        if improved:
            save_model(files.best, checkpoint())
        save_state(files.last, {**learner.state(), "course": asdict(course)})
        if schedule.elapsed_s - plotted_s > PLOT_EVERY_S or schedule.finished(course.epoch):
            plot_course(files.plot, read_log(files.log), labels=structures, title=title)
            plotted_s = schedule.elapsed_s
        on_epoch(record)

    save_model(files.final, checkpoint())
    return checkpoint()


def _new_learner(plan: Plan, configuration: Configuration, config: TrainConfig, device: torch.device) -> Learner:
    network = build_network(plan, configuration).to(device)
    answer = Answer.to(plan.labels, device)
    return Learner(network, config, batch_dice=configuration.batch_dice, device=device, answer=answer)


def _restored(path: Path, learner: Learner) -> Course:
    """Bring the learner to where the training stopped, and tell how far that is."""
    state = load_state(path, learner.device)
    try:
        learner.restore(state)
        return Course(**state["course"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} belongs to another plan or version ({error}); delete its folder to begin anew"
        ) from error


def _run_epoch(
    learner: Learner, batches: BatchSource, schedule: Schedule, course: Course, structures: Sequence[str]
) -> tuple[EpochRecord, bool]:
    """Train and validate for one epoch; moves ``course`` on. Also tells whether the epoch is the best so far."""
    started, rate = time.perf_counter(), schedule.learning_rate(course.epoch)
    train_loss, waited_s = _train_epoch(learner, batches, schedule, course.epoch)
    trained_s = time.perf_counter() - started
    validation_loss, dice = _validate_epoch(learner, batches, course.epoch, structures)
    known = [score for score in dice if score is not None]
    mean_dice = sum(known) / len(known) if known else None
    improved = course.follow(mean_dice)
    course.epoch, course.elapsed_s = course.epoch + 1, schedule.elapsed_s
    record = EpochRecord(
        epoch=course.epoch - 1,
        epochs=schedule.foreseen_epochs(course.epoch),
        learning_rate=rate,
        train_loss=train_loss,
        validation_loss=validation_loss,
        pseudo_dice=dice,
        mean_pseudo_dice=mean_dice,
        moving_pseudo_dice=course.moving_dice,
        duration_s=time.perf_counter() - started,
        elapsed_s=course.elapsed_s,
        data_wait_share=waited_s / trained_s,
        eta_s=schedule.remaining_s(course.epoch),
    )
    return record, improved


def _train_epoch(learner: Learner, batches: BatchSource, schedule: Schedule, epoch: int) -> tuple[float, float]:
    """Run the iterations of one epoch; returns its mean loss and the seconds spent waiting for batches."""
    config = schedule.config
    learner.network.train()
    total, done, waited_s = torch.zeros((), device=learner.device), 0, 0.0
    with closing(batches.training_batches(epoch, config.iterations)) as source:  # whatever happens, its thread ends
        asked = time.perf_counter()
        for batch in source:
            waited_s += time.perf_counter() - asked
            total += learner.step(batch, schedule.learning_rate(epoch))
            done += 1
            if config.time_budget_s is not None and schedule.finished(epoch):
                break  # the time is up in the middle of an epoch
            asked = time.perf_counter()
    mean_loss = float(total) / done
    if not math.isfinite(mean_loss):
        raise NnliteError(
            f"the training loss became {mean_loss} in epoch {epoch}: look at the images for absurd intensities, "
            "or begin anew with another --seed; the epochs before it are kept"
        )
    return mean_loss, waited_s


def _validate_epoch(
    learner: Learner, batches: BatchSource, epoch: int, structures: Sequence[str]
) -> tuple[float | None, tuple[float | None, ...]]:
    """Mean loss, and pseudo Dice of each structure, over patches of the validation cases."""
    learner.network.eval()
    total, done = torch.zeros((), device=learner.device), 0
    counts = torch.zeros(3, len(structures), dtype=torch.int64, device=learner.device)
    with closing(batches.validation_batches(epoch, learner.config.validation_iterations)) as source:
        for batch in source:
            loss, overlap = learner.look(batch)
            total += loss
            counts += overlap
            done += 1
    return (float(total) / done if done else None), pseudo_dice(counts)

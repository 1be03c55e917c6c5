"""Train one network on one fold: begin or go on, run its epochs, and keep on disk what each of them gave.

The method is nnU-Net's (Isensee et al., Nature Methods 18, 203-211, 2021): polynomial learning rate, deep supervision,
pseudo Dice over validation patches, the best model by its moving average. After every epoch, every few minutes within
one, and when it is asked to stop, all that a resumed training needs is written to disk. Of processes that train
together (``ranks.py``) all run this; the first one writes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from nnlite.errors import CheckpointError
from nnlite.networks.atlas import WithAtlas
from nnlite.networks.build import build_network
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.store import StoredCase
from nnlite.training.answer import Answer
from nnlite.training.atlas import AtlasCounts
from nnlite.training.batches import THREADS, BatchSource
from nnlite.training.checkpoint import Checkpoint, ModelCard, save_model
from nnlite.training.config import TrainConfig
from nnlite.training.course import SAVE_EVERY_S, Course, Saver
from nnlite.training.curriculum import easiest_first
from nnlite.training.curves import EpochRecord, append_to_log, plot_course, read_log, truncate_log
from nnlite.training.deterministic import deterministic_operations
from nnlite.training.epochs import Sitting, run_epochs
from nnlite.training.learner import Learner
from nnlite.training.pace import Pace
from nnlite.training.ranks import ALONE, Ranks
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
    files: TrainFiles | None,
    device: torch.device,
    ranks: Ranks = ALONE,
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
    place of those that are drawn. ``transforms`` are batchgenerators transforms of the caller's own that keep sizes;
    they are run on every training patch before the augmentation. ``threads`` prepare batches; their number changes no
    result, but with a curriculum under a time budget (see ``batches.py``). A state is saved after each epoch and every
    ``save_every_s`` within one. ``stop`` is asked after each step: when it says so, the state is saved and
    ``StoppedError`` raised.

    ``ranks`` are processes that train together: each calls this with the same plan, configuration, ``config`` and
    cases, on a device of its own. The first one has ``files`` and may resume; the others have None, begin in the state
    it is in, and write nothing.
    """
    torch.manual_seed(config.seed)
    learner = _new_learner(plan, configuration, config, device, ranks)
    atlas = None if plan.prior is None else AtlasCounts.of(training_cases.values(), plan)
    if not resume:
        _begin(learner, initial, atlas)
    course = _as_the_first(learner, _restored(files, learner) if resume and files else Course(), ranks)
    if files:
        truncate_log(files.log, course.epoch)
    order = easiest_first(training_cases, plan.labels.members, len(plan.channels)) if config.curriculum else ()
    batches = BatchSource(
        plan,
        configuration,
        training_cases,
        validation_cases,
        seed=config.seed,
        device=device,
        transforms=transforms,
        threads=threads,
        ranks=ranks,
        maps=learner.loss.needs,
        easiest_first=order,
        augmentation=config.augmentation,
        atlas=atlas,
    )
    pace = Pace(ranks, stop)
    schedule = Schedule(config, elapsed_s=course.elapsed_s, clock=pace.time_s)

    def checkpoint() -> Checkpoint:
        name, axes = configuration.name, batches.mirrored_axes
        card = ModelCard(plan=plan, configuration=name, fold=fold, epoch=course.epoch, mirror_axes=axes)
        return Checkpoint(card=card, weights=learner.shown.state_dict())

    def save() -> None:
        course.elapsed_s = schedule.elapsed_s
        if files:
            save_state(files.last, _state(learner, course), previous=files.previous)

    title = f"{plan.dataset} {configuration.name} {fold}"
    saver = Saver(save, stop=pace.stop, every_s=save_every_s)
    sitting = Sitting(learner, batches, schedule, course, pace, saver, title, plan.labels.learned)
    plotted_s = -PLOT_EVERY_S
    with deterministic_operations(config.deterministic):
        if config.compile == "auto":
            (sample,) = batches.training_batches(course.epoch, 1)
            learner.compile_if_faster(sample)
        for record, improved in run_epochs(sitting):
            if files is None:
                continue
            append_to_log(files.log, record)
            if improved:
                save_model(files.best, checkpoint())
            saver.save()
            if schedule.elapsed_s - plotted_s > PLOT_EVERY_S or sitting.finished:
                plot_course(files.plot, read_log(files.log), labels=sitting.structures, title=sitting.title)
                plotted_s = schedule.elapsed_s
            on_epoch(record)

    if files:
        save_model(files.final, checkpoint())
    return checkpoint()


def _new_learner(
    plan: Plan, configuration: Configuration, config: TrainConfig, device: torch.device, ranks: Ranks
) -> Learner:
    network = build_network(plan, configuration).to(device)
    answer = Answer.to(plan.labels, device)
    return Learner(network, config, batch_dice=configuration.batch_dice, device=device, answer=answer, ranks=ranks)


def _begin(learner: Learner, initial: Mapping[str, Tensor], atlas: AtlasCounts | None) -> None:
    """Take the weights to begin with, and the atlas of the fold's cases, whatever weights were taken over."""
    learner.begin_with(initial)
    if atlas is not None and isinstance(learner.network, WithAtlas):
        learner.network.take(atlas.frequencies())


def _state(learner: Learner, course: Course) -> dict[str, Any]:
    """All that a training goes on from."""
    return {**learner.state(), "course": asdict(course)}


def _as_the_first(learner: Learner, course: Course, ranks: Ranks) -> Course:
    """Bring this process to where the first one is, by what it would save; tells how far that is."""
    if ranks.count == 1:
        return course
    archive = io.BytesIO()
    if ranks.leads:
        torch.save(_state(learner, course), archive)
    told = ranks.tell(archive.getvalue())
    if ranks.leads:
        return course
    state = torch.load(io.BytesIO(told), map_location=learner.device, weights_only=True)
    learner.restore(state)
    return Course(**state["course"])


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

"""What becomes of a training that was begun: it goes on with what it was begun with, or is made longer.

What contradicts that is refused with both values.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from nnlite.data.records import read_record
from nnlite.data.split import Split
from nnlite.errors import CheckpointError, UsageError
from nnlite.networks.build import weight_shapes
from nnlite.pipeline.chosen_options import as_typed
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.variants import parted
from nnlite.training.config import TrainConfig
from nnlite.training.course import Course
from nnlite.training.curves import EpochRecord, read_log
from nnlite.training.initial_weights import encoder_weights
from nnlite.training.loss import Loss
from nnlite.training.schedule import PLATEAU_EPOCHS, Schedule
from nnlite.training.state_file import load_newest
from nnlite.workspace import RunFolder

FIXED = {
    "seed": "--seed",
    "deterministic": "--deterministic",
    "loss": "--loss",
    "optimizer": "--optimizer",
    "learning_rate": "--learning-rate",
    "schedule": "--schedule",
    "warm_up": "--warm-up",
    "ema": "--ema",
    "curriculum": "--curriculum",
    "freeze_encoder": "--freeze-encoder",
    "augmentation": "--augmentation",
}
"""Fields of a configuration that a training keeps, and the options that set them."""

logger = logging.getLogger(__name__)


def made_longer(run: RunFolder, as_asked: Callable[[TrainConfig], TrainConfig], *, resume: bool) -> bool:
    """Whether a training that came to its end is to go on; one that would, were it not for ``resume``, is told of.

    ``UsageError`` where it was another training than the one that is asked for.
    """
    if not (run.checkpoint_final.exists() and run.config.exists()):
        return False
    begun = read_record(run.config, RunConfig).train
    wanted = as_asked(begun)
    require_choices(run, begun, wanted)
    longer = wanted != begun and is_longer(run, wanted)
    if wanted != begun and not longer and is_longer(run, replace(wanted, patience=None)):
        logger.warning(
            "%s %s stays at %d epochs, since its pseudo Dice had not risen for %s; for more, add --resume and a "
            "larger --patience",
            run.configuration,
            run.fold,
            len(read_log(run.log)),
            wanted.patience,
        )
    if longer and not resume:
        logger.warning(
            "%s %s is finished after %d epochs; to train it for longer, add --resume",
            run.configuration,
            run.fold,
            len(read_log(run.log)),
        )
    return longer and resume


def as_begun(
    run: RunFolder, as_asked: Callable[[TrainConfig], TrainConfig], *, resume: bool, longer: bool
) -> RunConfig | None:
    """What a training was begun with, its length ``as_asked``; None where none was begun.

    One that came to its end, and is not made ``longer``, keeps its length: only scores may be missing.
    """
    if not run.config.exists():
        return None
    job = read_record(run.config, RunConfig)
    if run.checkpoint_final.exists() and not longer:
        return job
    require_as_begun(run, job.train, as_asked(job.train), resume=resume)
    return replace(job, train=as_asked(job.train))


def require_as_begun(run: RunFolder, begun: TrainConfig, wanted: TrainConfig, *, resume: bool) -> None:
    """Raise ``UsageError`` if a begun training is asked for another choice or (unless ``resume``) length."""
    require_choices(run, begun, wanted)
    if (before := _length(begun)) != (now := _length(wanted)) and not resume:
        raise UsageError(
            f"{run.configuration} {run.fold} was begun for {before}, not {now}, and is not finished: repeat the "
            "command without a length to go on as it was begun, add --resume to go on with the new length, or delete "
            f"{run.folder} to begin anew"
        )


def require_choices(run: RunFolder, begun: TrainConfig, wanted: TrainConfig) -> None:
    """Raise ``UsageError`` if a training, finished or not, is asked for another choice than it was begun with."""
    for field, option in FIXED.items():
        was, now = getattr(begun, field), getattr(wanted, field)
        if was != now and not (field == "loss" and Loss.named(was) == Loss.named(now)):
            kind, _ = parted(run.configuration)
            raise UsageError(
                f"{run.configuration} {run.fold} was begun with {option} {_shown(field, was)}, not "
                f"{_shown(field, now)}, and that cannot change on the way: leave {option} out to go on with it, train "
                f"{kind}@NAME beside it, or delete {run.folder} to begin anew"
            )


def require_sense(job: RunConfig, split: Split, *, begun: bool = False) -> None:
    """Raise ``UsageError`` where choices of a training do not go together, or with its data.

    What does no harm may go on where it was ``begun`` by an nnlite that allowed it.
    """
    config, here = job.train, f"{job.configuration} {job.fold}"
    if not split.validation and (config.patience is not None or config.schedule == "plateau"):
        option, remedy = "--patience", "leave it out"
        if config.schedule == "plateau":
            option, remedy = "--schedule plateau", "name another --schedule"
        raise UsageError(
            f"{option} follows the pseudo Dice of held-out cases, and {here} holds none out: {remedy}, or train one of "
            "the numbered folds"
        )
    in_vain = config.schedule == "plateau" and config.patience is not None and config.patience <= PLATEAU_EPOCHS
    if in_vain and not begun:
        raise UsageError(
            f"--schedule plateau lowers the rate after {PLATEAU_EPOCHS} epochs without a better pseudo Dice, and "
            f"--patience {config.patience} would end {here} before an epoch is trained at it: take a --patience well "
            f"above {PLATEAU_EPOCHS}, or --schedule constant"
        )
    limited = config.time_budget_s is not None  # then a training has as many epochs as fit: it tells in the end
    if not limited and 1 <= config.warm_up > config.epochs - 1:
        raise UsageError(
            f"--warm-up {config.warm_up:g} does not come to the full learning rate in the {config.epochs} epochs of "
            f"{here}: train for more, or warm up for fewer, or for a part of the training, as 10%"
        )
    if not config.freeze_encoder:
        return
    if job.initial is None:
        raise UsageError(
            f"--freeze-encoder {config.freeze_encoder} keeps weights that were learned before, and those of {here} are "
            "freshly drawn: add --init-from MODEL, or leave --freeze-encoder out"
        )
    weights = encoder_weights(weight_shapes(job.plan, job.plan.configuration(job.configuration)))
    if set(weights) <= set(job.initial.fresh):
        raise UsageError(
            f"no weight of the encoder of {here} comes from {job.initial.source}, so --freeze-encoder would keep none: "
            "leave it out"
        )
    if not limited and config.freeze_encoder >= config.epochs:
        raise UsageError(
            f"--freeze-encoder {config.freeze_encoder} holds the encoder for all of the {config.epochs} epochs of "
            f"{here}: train for more, or hold it for fewer"
        )


def is_longer(run: RunFolder, wanted: TrainConfig) -> bool:
    """Whether a finished training would go on if it had this length."""
    epochs = read_log(run.log)
    if not epochs or _out_of_patience(epochs, wanted):
        return False
    return not Schedule(wanted, elapsed_s=epochs[-1].elapsed_s).finished(len(epochs))


def _out_of_patience(epochs: Sequence[EpochRecord], wanted: TrainConfig) -> bool:
    """Whether the pseudo Dice of a training has not risen for as many epochs as its patience lasts."""
    course = Course()
    for epoch in epochs:
        course.follow(epoch.mean_pseudo_dice)
        course.next_epoch()
    return course.out_of_patience(wanted.patience)


def reopen(run: RunFolder) -> None:
    """Take the end of a finished training away, so that it goes on from its last state.

    ``UsageError`` where there is no such state, or none that can be read; then all stays as it is. Whenever this is
    interrupted, the training is finished as it was, or lacks only its scores, or ends anew with the length that it had:
    its config.json must be written afterwards.
    """
    if not (run.checkpoint_last.exists() or run.checkpoint_previous.exists()):
        raise UsageError(
            f"{run.configuration} {run.fold} cannot be made longer: {run.checkpoint_last} is not there (it was "
            f"deleted, or the model imported); delete {run.folder} to train it anew"
        )
    try:
        newest, _ = load_newest(run.checkpoint_last, run.checkpoint_previous, torch.device("cpu"))
    except CheckpointError as error:
        raise UsageError(
            f"{run.configuration} {run.fold} cannot be made longer: leave --resume out, and it stays as it is ({error})"
        ) from error
    if newest != run.checkpoint_last:
        run.checkpoint_last.unlink(missing_ok=True)  # damaged, which was told: not once more
    # first of all the summary: its presence says finished
    for traces in (run.summary, run.scores, run.reliability, run.instance_scores, run.instance_summary):
        traces.unlink(missing_ok=True)
    shutil.rmtree(run.validation, ignore_errors=True)
    run.checkpoint_final.unlink(missing_ok=True)


def _shown(field: str, value: object) -> str:
    return "off" if value is None or value is False else "on" if value is True else as_typed(field, value)


def _length(config: TrainConfig) -> str:
    steps = f"of {config.iterations} iterations"
    if config.patience is not None:
        steps += f" and a patience of {config.patience}"
    if config.time_budget_s is not None:
        return f"{config.time_budget_s:g} s with epochs {steps}"
    return f"{config.epochs} epochs {steps}"

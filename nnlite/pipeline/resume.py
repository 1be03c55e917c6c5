"""What becomes of a training that was begun: it goes on with what it was begun with, or is made longer.

What contradicts that is refused with both values.
"""

from __future__ import annotations

import shutil

from nnlite.errors import UsageError
from nnlite.training.config import TrainConfig
from nnlite.training.curves import read_log
from nnlite.training.schedule import Schedule
from nnlite.workspace import RunFolder


def require_as_begun(run: RunFolder, begun: TrainConfig, wanted: TrainConfig, *, resume: bool) -> None:
    """Raise ``UsageError`` if a begun training is asked for another seed, or (unless ``resume``) another length."""
    here = f"{run.configuration} {run.fold} was begun"
    anew = f"or delete {run.folder} to begin anew"
    if wanted.seed != begun.seed:
        raise UsageError(
            f"{here} with seed {begun.seed}, not {wanted.seed}, and a seed cannot change on the way: "
            f"leave --seed out to go on with it, {anew}"
        )
    if (before := _length(begun)) != (now := _length(wanted)) and not resume:
        raise UsageError(
            f"{here} for {before}, not {now}, and is not finished: repeat the command without a length to go on as it "
            f"was begun, add --resume to go on with the new length, {anew}"
        )


def is_longer(run: RunFolder, wanted: TrainConfig) -> bool:
    """Whether a finished training would go on if it had this length."""
    epochs = read_log(run.log)
    elapsed_s = epochs[-1].elapsed_s if epochs else 0.0
    return bool(epochs) and not Schedule(wanted, elapsed_s=elapsed_s).finished(len(epochs))


def reopen(run: RunFolder) -> None:
    """Take the end of a finished training away, so that it goes on from its last state.

    ``UsageError`` where there is no such state. Whenever this is interrupted, the training is either finished as it
    was, or ends anew with the length that it had: its config.json must be written afterwards.
    """
    if not (run.checkpoint_last.exists() or run.checkpoint_previous.exists()):
        raise UsageError(
            f"{run.configuration} {run.fold} cannot be made longer: {run.checkpoint_last} is not there (it was "
            f"deleted, or the model imported); delete {run.folder} to train it anew"
        )
    # first of all the summary: its presence says finished
    for traces in (run.summary, run.scores, run.reliability, run.instance_scores, run.instance_summary):
        traces.unlink(missing_ok=True)
    shutil.rmtree(run.validation, ignore_errors=True)
    run.checkpoint_final.unlink(missing_ok=True)


def _length(config: TrainConfig) -> str:
    steps = f"of {config.iterations} iterations"
    if config.time_budget_s is not None:
        return f"{config.time_budget_s:g} s with epochs {steps}"
    return f"{config.epochs} epochs {steps}"

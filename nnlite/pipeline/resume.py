"""An unfinished training goes on with what it was begun with; what contradicts that is refused with both values."""

from __future__ import annotations

from nnlite.errors import UsageError
from nnlite.training.config import TrainConfig
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


def _length(config: TrainConfig) -> str:
    steps = f"of {config.iterations} iterations"
    if config.time_budget_s is not None:
        return f"{config.time_budget_s:g} s with epochs {steps}"
    return f"{config.epochs} epochs {steps}"

"""What the trainings of a variant have in common: its folds are trained alike, and a misspelt name trains none."""

from __future__ import annotations

import logging
from dataclasses import replace

from nnlite.data.records import read_record
from nnlite.data.split import Split
from nnlite.errors import UsageError
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.run_status import ALL
from nnlite.planning.variants import parted
from nnlite.training.config import TrainConfig
from nnlite.workspace import Workspace

logger = logging.getLogger(__name__)


def first_of_variant(workspace: Workspace, configuration: str) -> RunConfig | None:
    """The first fold of a variant, as which further ones are trained where nothing else is asked for.

    A numbered one before ``all``, which had to do without a patience. None where no fold is begun, and for what is no
    variant.
    """
    if parted(configuration)[1] is None:
        return None
    begun = [run for run in workspace.existing_runs() if run.configuration == configuration]
    first = min(begun, key=lambda run: run.fold == ALL, default=None)
    return None if first is None else read_record(first.config, RunConfig)


def settings_for(split: Split, name: str, settings: TrainConfig) -> TrainConfig:
    """The settings of other folds for one that is called ``name``: no patience where no case is held out to follow."""
    if split.validation or settings.patience is None:
        return settings
    logger.warning(
        "%s holds no case out, so no patience ends it early, as that of %d epochs may end other folds: it takes its "
        "full length, unless you name another",
        name,
        settings.patience,
    )
    return replace(settings, patience=None)


def require_difference(workspace: Workspace, configuration: str, *, asked_otherwise: bool) -> None:
    """``UsageError`` for a variant of which nothing is known and nothing is asked: its name may be misspelt."""
    kind, variant = parted(configuration)
    if variant is None or asked_otherwise or workspace.plan_of(variant).exists():
        return
    names = sorted({run.configuration for run in workspace.existing_runs()})
    if configuration not in names:
        there = f"; begun are {', '.join(names)}" if names else ""
        raise UsageError(
            f"{configuration} would be trained just as {kind}: name what is to be different, as in nnlite train "
            f"{workspace.dataset} {configuration} fold0 --seed 1, or plan it with nnlite plan --as {variant}{there}"
        )

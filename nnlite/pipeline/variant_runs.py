"""What the trainings of a variant have in common: its folds are trained alike, and a misspelt name trains none."""

from __future__ import annotations

from nnlite.data.records import read_record
from nnlite.errors import UsageError
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.variants import parted
from nnlite.workspace import Workspace


def first_of_variant(workspace: Workspace, configuration: str) -> RunConfig | None:
    """The first fold of a variant, as which further ones are trained where nothing else is asked for.

    None where no fold is begun, and for what is no variant.
    """
    if parted(configuration)[1] is None:
        return None
    begun = [run for run in workspace.existing_runs() if run.configuration == configuration]
    return read_record(begun[0].config, RunConfig) if begun else None


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

"""From a finished fingerprint to a plan: no dataset is needed, nothing is read but one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nnlite.data.labels import Labels
from nnlite.data.records import read_record, write_record
from nnlite.data.split import FOLDS
from nnlite.errors import PlanError, UsageError, WorkspaceError
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, PlanResult
from nnlite.pipeline.plan_request import plan_request
from nnlite.planning.cost import shallow_networks, slow_steps
from nnlite.planning.fingerprint import Fingerprint, from_nnunet
from nnlite.planning.network import NOTHING_ASKED, NetworkOptions, Residual
from nnlite.planning.planner import Preset
from nnlite.workspace import Workspace


def plan_fingerprint(
    file: Path,
    *,
    labels: int,
    channels: Sequence[str],
    name: str | None = None,
    work: Path = DEFAULT_WORK,
    device: str = "auto",
    memory_gib: float | None = None,
    preset: Preset | None = None,
    residual: Residual | None = None,
    network: NetworkOptions = NOTHING_ASKED,
    from_plan: Path | None = None,
    overrides: Sequence[str] = (),
    hu_windows: str | None = None,
    hu_masks: str | None = None,
) -> PlanResult:
    """Plan from nnlite's or nnU-Net v2's fingerprint alone; the plan is that of the dataset it was taken from.

    ``labels`` counts the background; they are called "label 1", "label 2" and so on. ``name`` of the dataset: that of
    the folder the file lies in, unless given. The other options are those of ``plan``.
    """
    request = plan_request(
        device=device,
        memory_gib=memory_gib,
        preset=preset,
        residual=residual,
        network=network,
        from_plan=from_plan,
        overrides=overrides,
        hu_windows=hu_windows,
        hu_masks=hu_masks,
    )
    if labels < 2:
        raise UsageError(f"--labels {labels}: at least 2, the background and one structure")
    workspace = Workspace(root=work, dataset=name or file.resolve().parent.name)
    if workspace.source.exists():
        raise WorkspaceError(
            f"{workspace.folder} was made from a dataset, whose plan would be lost; give another name with --name, or "
            "choose another workspace with --work"
        )
    fingerprint = read_fingerprint(file)
    table = Labels(names=("background", *(f"label {value}" for value in range(1, labels))), values=tuple(range(labels)))
    decided = request.decide(fingerprint, dataset=workspace.dataset, channels=channels, labels=table)
    write_record(workspace.fingerprint, fingerprint)
    write_record(workspace.plan, decided)
    notes = (
        *slow_steps(decided),
        *shallow_networks(decided),
        f"to train by it: nnlite plan DATASET --from {workspace.plan}",
    )
    trainings = min(FOLDS, decided.training_cases)  # as the cases are dealt if nothing else is asked for
    return PlanResult(plan=decided, path=workspace.plan, notes=notes, trainings=trainings)


def read_fingerprint(path: Path) -> Fingerprint:
    """nnlite's or nnU-Net v2's fingerprint from its JSON file; PlanError says why it cannot be used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise PlanError(f"{path} cannot be read: {problem.strerror}") from problem
    except ValueError as problem:
        raise PlanError(f"{path} is not valid JSON: {problem}") from problem
    if not isinstance(content, dict):
        raise PlanError(f"{path} should hold one JSON object, a fingerprint")
    if "format_version" in content:
        return read_record(path, Fingerprint, error=PlanError)
    try:
        return from_nnunet(content)
    except PlanError as problem:
        raise PlanError(f"{path}: {problem}") from problem

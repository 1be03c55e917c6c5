"""Take over models that nnU-Net v2 has trained: written as nnlite's own runs, so that ``predict`` finds them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nnlite.data.progress import Progress, silent
from nnlite.data.records import write_record
from nnlite.errors import UsageError
from nnlite.inference.postprocess import Postprocessing
from nnlite.interop.nnunet import TrainedFolder, find_trained, joint_plan, read_model
from nnlite.interop.nnunet_plan import configuration_name
from nnlite.interop.nnunet_postprocessing import find_postprocessing, read_postprocessing
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.planner import Plan
from nnlite.training.checkpoint import save_model
from nnlite.training.config import TrainConfig
from nnlite.workspace import RunFolder, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """A model that was taken over. ``folds`` are by configuration; ``notes`` are what its user should know."""

    folder: Path
    plan: Plan
    folds: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def import_nnunet(
    folders: Sequence[Path], output: Path, *, postprocessing: Path | None = None, progress: Progress = silent
) -> ImportResult:
    """Write the networks in nnU-Net's result folders to the new folder ``output``, which ``predict`` takes as a model.

    Each folder is one configuration with one or more folds; a cascade needs the folder of its first stage as well.
    ``postprocessing`` is the postprocessing.json for the first of them, by default the one that lies in each folder, if
    one does. The new folder appears whole, or not at all.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise UsageError(f"{output} exists already; give a new folder for the model with -o, or delete it")
    trained = [find_trained(folder) for folder in folders]
    plan = joint_plan(trained)
    rules = {one.configuration: _rules(one, plan, None) for one in trained[1:]}
    rules[trained[0].configuration] = _rules(trained[0], plan, postprocessing)
    jobs = [(one, fold) for one in trained for fold in one.checkpoints]
    folds: dict[str, tuple[str, ...]] = {}
    with _folder_whole(output) as beside:
        workspace = Workspace(root=beside.parent, dataset=beside.name)
        write_record(workspace.plan, plan)
        for done, (one, fold) in enumerate(jobs, start=1):
            run = _import_fold(one, fold, plan, workspace)
            folds[run.configuration] = (*folds.get(run.configuration, ()), run.fold)
            progress("import", done, len(jobs))
        for one in trained:
            if found := rules[one.configuration]:
                write_record(workspace.postprocessing(configuration_name(one.plans, one.configuration)), found)
    notes = [f"{one.configuration}: {note}" for one in trained for note in (*one.notes, *_told(one, rules))]
    return ImportResult(folder=output, plan=plan, folds=folds, notes=tuple(notes))


def _rules(trained: TrainedFolder, plan: Plan, given: Path | None) -> Postprocessing | None:
    """What nnU-Net chose for a configuration, None where it decided nothing."""
    path = given or find_postprocessing(trained.folder, trained.checkpoints)
    return None if path is None else read_postprocessing(path, plan.labels)


def _told(trained: TrainedFolder, rules: Mapping[str, Postprocessing | None]) -> Iterator[str]:
    """What its user should know about a configuration's postprocessing."""
    found = rules[trained.configuration]
    if found is not None:
        chosen = ", ".join(rule.in_words() for rule in found.rules) or "none"
        yield f"postprocessing as nnU-Net chose it: {chosen}"
    elif any(trained.folder.glob("*/postprocessing.pkl")):
        yield "nnU-Net chose a postprocessing, but only its pickle is here, which is not opened; it is not applied"


def _import_fold(trained: TrainedFolder, fold: str, plan: Plan, workspace: Workspace) -> RunFolder:
    checkpoint = read_model(trained, fold, plan)
    run = workspace.run(checkpoint.card.configuration, fold)
    save_model(run.checkpoint_final, checkpoint)
    job = RunConfig(
        plan=plan,
        configuration=run.configuration,
        fold=fold,
        train=TrainConfig(epochs=max(1, checkpoint.card.epoch)),  # nnU-Net's settings are nnlite's defaults
        device=plan.device,
        versions={"nnlite": version("nnlite"), "trainer": f"nnU-Net v2, {trained.trainer}"},
    )
    write_record(run.config, job)
    return run


@contextmanager
def _folder_whole(path: Path) -> Iterator[Path]:
    """Give a folder beside ``path``; on success it becomes ``path``, else it is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as temporary:
        beside = Path(temporary) / path.name
        beside.mkdir()
        yield beside
        if path.exists():
            path.rmdir()  # it is empty
        beside.rename(path)

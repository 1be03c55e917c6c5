"""From trained runs to one file that predicts anywhere: the runs that ``predict`` would use, and what is known of them.

What is said of single cases stays behind: scores are means, and training images lose their names and their order.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from nnlite.data.records import read_record
from nnlite.errors import UsageError, WorkspaceError
from nnlite.evaluation.cross_validation import name_of
from nnlite.evaluation.scores import Scores, Summary, read_scores
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.pipeline.appearance import read_appearance
from nnlite.pipeline.choose_runs import ChosenRuns, choose_runs, first_stage, load_models
from nnlite.pipeline.model_file import PackedModel, PackedRun, is_model_file, write_model_file
from nnlite.pipeline.plan_dataset import DEFAULT_WORK
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.selection import read_selection
from nnlite.planning.appearance import Appearance
from nnlite.planning.planner import Plan
from nnlite.workspace import RunFolder, Workspace, locate_run

NO_LICENCE = """\
No licence is stated for this model.

Nobody but its owner has been given leave to use, change or hand it on. Ask whoever you have it from.
(Whoever exports a model states its licence with: nnlite export DATASET -o MODEL --licence FILE)
"""
LARGEST_LICENCE = 2**20  # the longest in common use has 35 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """A model file that was written; ``licensed`` says that a licence was given."""

    path: Path
    plan: Plan
    model: PackedModel
    licensed: bool


def export(
    model: Path,
    output: Path,
    *,
    work: Path = DEFAULT_WORK,
    configuration: str | None = None,
    folds: Sequence[str] = (),
    licence: Path | None = None,
    force: bool = False,
) -> ExportResult:
    """Write what ``predict`` would use of ``model`` to the file ``output``, which ``predict`` takes on any machine.

    ``model``, ``configuration`` and ``folds`` mean what they mean there: by default what was selected. All networks are
    read before anything is written. ``licence`` is a text file. ``UsageError`` if ``output`` exists, unless ``force``.
    """
    if output.is_dir() or (output.exists() and not force):
        way_out = "give a file with -o" if output.is_dir() else "give another one with -o, or add --force to replace it"
        raise UsageError(f"{output} exists already; {way_out}")
    if is_model_file(model):
        raise UsageError(f"{model} is a model file already; copy it")
    text = NO_LICENCE if licence is None else _licence(licence)
    chosen = choose_runs(model, work, configuration, folds)
    models = load_models(chosen, device=torch.device("cpu"), mirroring=False, step=WINDOW_STEP)
    plan = models[0].plan
    runs = [run for members in chosen.members for run in members]
    for members, answering in zip(chosen.members, models, strict=True):
        if stage := answering.configuration.previous_stage:
            runs += [run for run in first_stage(members[0], stage) if run not in runs]
    packed = _packed(chosen, runs)
    workspace = _workspace(runs[0])
    appearance = read_appearance(workspace) if workspace else None
    write_model_file(
        output,
        packed,
        plan,
        appearance=appearance and _without_names(appearance),
        licence=text,
        weights=[run.checkpoint_final for run in runs],
        versions={"python": platform.python_version(), **{name: version(name) for name in ("nnlite", "torch")}},
    )
    return ExportResult(path=output, plan=plan, model=packed, licensed=licence is not None)


def _licence(path: Path) -> str:
    """The text of a licence; ``UsageError`` where the file is none."""
    try:
        if path.stat().st_size > LARGEST_LICENCE:
            raise UsageError(f"{path} has {path.stat().st_size} bytes; a licence has no more than {LARGEST_LICENCE}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; give the licence as a text file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8; give the licence as a text file") from error


def _packed(chosen: ChosenRuns, runs: Sequence[RunFolder]) -> PackedModel:
    """What is told of the runs in the file. Their folders may have other names: a run can be moved on its own."""
    packed = {run: _packed_run(run) for run in runs}
    workspace = _workspace(runs[0])
    selection = read_selection(workspace) if chosen.selection and workspace else None
    scores = {packed[members[0]].configuration: _scored(members) for members in chosen.members}
    if selection and workspace and len(selection.members) > 1:
        scores[name_of(selection.members)] = read_record(workspace.ensemble(selection.members).summary, Summary)
    return PackedModel(
        members=tuple(packed[members[0]].configuration for members in chosen.members),
        folds=tuple(packed[run].fold for run in chosen.members[0]),
        runs=tuple(packed.values()),
        postprocessing=chosen.postprocessing,
        selected=selection.candidates[0] if selection else None,
        mean_dice_postprocessed=selection.mean_dice_postprocessed if selection else None,
        reliability=selection.reliability if selection else {},
        scores={name: summary for name, summary in scores.items() if summary is not None},
    )


def _packed_run(run: RunFolder) -> PackedRun:
    job = read_record(run.config, RunConfig)
    return PackedRun(configuration=job.configuration, fold=job.fold, versions=job.versions)


def _scored(runs: Sequence[RunFolder]) -> Summary | None:
    """Means over all cases that these runs held out; None where none was scored, as of imported ones."""
    scores = [read_scores(run.scores, run.summary) for run in runs if run.scores.exists() and run.summary.exists()]
    if not scores:
        return None
    return Scores(
        rows=tuple(row for one in scores for row in one.rows),
        tolerance_mm=scores[0].tolerance_mm,
        metrics=scores[0].metrics,
    ).summary()


def _workspace(run: RunFolder) -> Workspace | None:
    """The workspace of a run; None of one that was moved on its own."""
    try:
        return locate_run(run.folder)[0]
    except WorkspaceError:
        return None


def _without_names(appearance: Appearance) -> Appearance:
    """The same with numbers for names, in an order that does not come from them."""
    images = sorted((replace(image, case="") for image in appearance.images), key=repr)
    return replace(
        appearance, images=tuple(replace(image, case=str(number)) for number, image in enumerate(images, start=1))
    )

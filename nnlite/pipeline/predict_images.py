"""Predict raw images with trained runs; the model is loaded once for all of them.

While the network is busy with a case, the one after it is read and preprocessed and the mask of the one before is
written, in a thread each; no more than that is ever under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from nnlite.data.dataset import Case, default_name, find_dataset, find_images
from nnlite.data.image import Image, StoredGrid, read_channels, write_mask
from nnlite.data.nifti import channels_written
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record
from nnlite.errors import CheckpointError, DatasetError, ImageError, UsageError
from nnlite.evaluation.scores import Summary
from nnlite.inference.predict import Model, predict_case, ready_case
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.pipeline.dataset_source import refuse_another_source
from nnlite.pipeline.load_model import load
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.plan_dataset import DEFAULT_WORK
from nnlite.preprocessing.preprocess import PreprocessedCase
from nnlite.workspace import RunFolder, Workspace, locate_run

PROBABILITIES_SUFFIX = ".probabilities.nii"  # every viewer reads it, and without compression it can be written in parts

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """The masks that were written, in the order of the cases, and how long each case took.

    A case takes as long as the network waits for it and is busy with it; reading and writing beside that cost nothing.
    """

    masks: tuple[Path, ...]
    configuration: str
    folds: tuple[str, ...]
    seconds_per_case: tuple[float, ...]


def predict(
    model: Path,
    inputs: Sequence[Path],
    output: Path,
    *,
    work: Path = DEFAULT_WORK,
    configuration: str | None = None,
    folds: Sequence[str] = (),
    mirroring: bool = True,
    step: float = WINDOW_STEP,
    device: str = "auto",
    probabilities: bool = False,
    progress: Progress = silent,
) -> PredictResult:
    """Segment images (files or folders) and write one mask per case to ``output``.

    ``model`` is a dataset with trained runs, its folder in the workspace, or the folder of one run. Of a dataset, the
    configuration with the highest mean Dice over its held-out cases is used unless ``configuration`` names one, and all
    its trained folds are averaged unless ``folds`` names some. A mask has its image's geometry and format, and the
    label values of the training labels. ``probabilities`` also writes ``CASE.probabilities.nii``, one channel per
    label. Images that cannot be read are told of at the end, in one ``ImageError``, when all others are predicted.
    """
    if output.is_file():
        raise UsageError(f"{output} is a file; give the folder for the masks")
    target = torch.device(device_name(device))
    runs = _runs(model, work, configuration, folds)
    network = _load(runs, device=target, mirroring=mirroring, step=step)
    cases = find_images(inputs, len(network.plan.channels))
    given = {path.resolve() for case in cases for path in case.images}
    read = _overlapped(lambda case: _read(network, case, output, given), cases)
    seconds: list[float] = []

    def predicted() -> Iterator[_Predicted | ImageError]:
        for done, coming in enumerate(read, start=1):
            started = time.perf_counter()
            outcome = _predict(network, coming, probabilities=probabilities)
            if isinstance(outcome, _Predicted):
                seconds.append(time.perf_counter() - started)
            progress("predict", done, len(cases))
            yield outcome

    masks, faults = [], []
    for case, written in zip(cases, _overlapped(_write, predicted()), strict=True):
        try:
            masks.append(written.result())
        except ImageError as error:  # one broken scan must not cost the night that a thousand others take
            faults.append(f"{case.id}: {error}")
    if faults:
        headline = f"{len(faults)} of {len(cases)} cases could not be predicted, the others are in {output}:"
        raise ImageError("\n  ".join([headline, *faults]))
    return PredictResult(
        masks=tuple(masks),
        configuration=network.configuration.name,
        folds=tuple(run.fold for run in runs),
        seconds_per_case=tuple(seconds),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A case that was read: preprocessed, or as an ``Image`` where another network has to see it first."""

    case_id: str
    mask: Path
    grid: StoredGrid
    content: PreprocessedCase | Image


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predicted:
    """A mask that only has to be written, with the values of the training labels."""

    mask: Path
    grid: StoredGrid
    values: np.ndarray


def _overlapped(work: Callable[[T], R], items: Iterable[T]) -> Iterator[Future[R]]:
    """Do ``work`` on each item in a thread, at most one item ahead of the one that is asked for; in their order."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        before: Future[R] | None = None
        for item in items:
            coming = thread.submit(work, item)
            del item
            if before is not None:
                yield before
            before = coming
        if before is not None:
            yield before


def _read(model: Model, case: Case, output: Path, given: set[Path]) -> _Job:
    """Read a case, and preprocess it unless it is for a cascade; files in ``given`` are not to be overwritten."""
    image = read_channels(case.images)
    mask = output / f"{case.id}{image.stored.mask_suffix}"
    if mask.resolve() in given:
        raise UsageError(f"the mask of {case.id} would overwrite its image {mask}; choose another folder with -o")
    # from here on the grid is enough: the voxels of a large scan are let go
    content = ready_case(model, case.id, image) if model.configuration.previous_stage is None else image
    return _Job(case_id=case.id, mask=mask, grid=image.stored, content=content)


def _predict(model: Model, coming: Future[_Job], *, probabilities: bool) -> _Predicted | ImageError:
    """Predict a case as soon as it is read, and write its probabilities if asked for; an image's fault is returned."""
    try:
        job = coming.result()
        case = job.content if isinstance(job.content, PreprocessedCase) else ready_case(model, job.case_id, job.content)
    except ImageError as error:
        return error
    labels = model.plan.labels
    path = job.mask.parent / f"{job.case_id}{PROBABILITIES_SUFFIX}"
    background = [1.0, *[0.0] * (labels.count - 1)]
    with channels_written(path, job.grid, background=background) if probabilities else nullcontext() as keep:
        indices = predict_case(model, case, keep_probabilities=keep)
    return _Predicted(mask=job.mask, grid=job.grid, values=labels.to_values(indices))


def _write(predicted: _Predicted | ImageError) -> Path:
    """Write a mask and return its path; raises the fault of an image that could not be predicted."""
    if isinstance(predicted, ImageError):
        raise predicted
    write_mask(predicted.mask, predicted.values, predicted.grid)
    return predicted.mask


def _runs(model: Path, work: Path, configuration: str | None, folds: Sequence[str]) -> tuple[RunFolder, ...]:
    """The runs whose networks are averaged."""
    run = RunFolder(folder=model)
    if run.config.exists():
        if configuration not in (None, run.configuration) or any(fold != run.fold for fold in folds):
            raise UsageError(
                f"{model} is the training {run.configuration} {run.fold} alone; give the dataset, "
                "or its folder in the workspace, to choose others with --config and --folds"
            )
        return (run,)
    workspace = _workspace(model, work)
    trained = [run for run in workspace.existing_runs() if run.checkpoint_final.exists()]
    if not trained:
        raise CheckpointError(f"{workspace.folder} holds no finished training; run nnlite train first")
    by_configuration: dict[str, list[RunFolder]] = {}
    for run in trained:
        by_configuration.setdefault(run.configuration, []).append(run)
    name = configuration or max(by_configuration, key=lambda name: _mean_dice(by_configuration[name]))
    if name not in by_configuration:
        raise UsageError(f'no fold of "{name}" is trained; trained are {", ".join(by_configuration)}')
    chosen = [run for run in by_configuration[name] if not folds or run.fold in folds]
    if missing := sorted(set(folds) - {run.fold for run in chosen}):
        there = ", ".join(run.fold for run in by_configuration[name])
        raise UsageError(f"{name} {', '.join(missing)} is not trained; trained are {there}")
    return tuple(chosen)


def _workspace(model: Path, work: Path) -> Workspace:
    """The workspace of a dataset's folder, or of a dataset that is given by its folder in the workspace."""
    if (model / "plan.json").exists():
        return Workspace(root=model.resolve().parent, dataset=model.resolve().name)
    unnamed = Workspace(root=work, dataset=default_name(model))
    if not model.exists():
        if not unnamed.plan.exists():
            raise UsageError(
                f"there is no model {model}: it is neither a dataset nor the folder of a training, and {work} has no "
                f'dataset "{unnamed.dataset}"; give the dataset that was trained on, or say with --work where the '
                "workspace lies"
            )
        return unnamed
    workspace = unnamed
    if not unnamed.plan.exists():
        try:
            workspace = Workspace(root=work, dataset=find_dataset(model, description=unnamed.description).name)
        except DatasetError as error:
            raise UsageError(
                f"{model} is no model: give the dataset that was trained on, its folder in the workspace, "
                "or the folder of one training (WORK/DATASET/runs/CONFIG/FOLD)"
            ) from error
    # a model trained on another dataset of this name must not be taken for this one's
    refuse_another_source(model if model.is_dir() else model.parent, workspace)
    return workspace


def _mean_dice(runs: Sequence[RunFolder]) -> float:
    """Mean Dice over the held-out cases of these runs; -1 where nothing was held out."""
    known = [dice for run in runs if (dice := _dice(run)) is not None]
    return sum(known) / len(known) if known else -1.0


def _dice(run: RunFolder) -> float | None:
    return read_record(run.summary, Summary).foreground["dice"] if run.summary.exists() else None


def _load(runs: Sequence[RunFolder], *, device: torch.device, mirroring: bool, step: float) -> Model:
    """The model of these runs, with its first stage where it is the second of a cascade."""
    model = load([run.checkpoint_final for run in runs], device=device, mirroring=mirroring, step=step)
    stage = model.configuration.previous_stage
    if stage is None:
        return model
    workspace, _ = locate_run(runs[0].folder)
    first = [run for run in workspace.existing_runs() if run.configuration == stage and run.checkpoint_final.exists()]
    if not first:
        raise CheckpointError(
            f"{model.configuration.name} continues from {stage}, of which {workspace.folder} holds no finished "
            f"training; run nnlite train {workspace.dataset} {stage} fold0 .. fold4"
        )
    return replace(model, previous=_load(first, device=device, mirroring=mirroring, step=step))

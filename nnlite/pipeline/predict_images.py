"""Predict raw images with trained runs; the model is loaded once for all of them.

While the network is busy with a case, the one after it is read and preprocessed and the mask of the one before is
written, in a thread each; no more than that is ever under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from nnlite.data.dataset import Case, find_images
from nnlite.data.image import Image, StoredGrid, read_channels, write_mask
from nnlite.data.nifti import channels_written
from nnlite.data.progress import Progress, silent
from nnlite.errors import ImageError, UsageError
from nnlite.evaluation.cross_validation import name_of
from nnlite.inference.ensemble import predict_cases
from nnlite.inference.postprocess import Postprocessing, apply
from nnlite.inference.predict import Model, ready_case
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.pipeline.choose_runs import choose_runs, load_models
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.plan_dataset import DEFAULT_WORK
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import PreprocessedCase

PROBABILITIES_SUFFIX = ".probabilities.nii"  # every viewer reads it, and without compression it can be written in parts

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """The masks that were written, in the order of the cases, and how long each case took.

    A case takes as long as the network waits for it and is busy with it; reading and writing beside that cost nothing.
    ``configuration`` is "2d + 3d" where these two answered together. ``selection`` is the file that chose the
    configurations and the ``postprocessing``, None where it was not asked.
    """

    masks: tuple[Path, ...]
    configuration: str
    folds: tuple[str, ...]
    seconds_per_case: tuple[float, ...]
    selection: Path | None
    postprocessing: Postprocessing


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
    postprocessing: bool = True,
    progress: Progress = silent,
) -> PredictResult:
    """Segment images (files or folders) and write one mask per case to ``output``.

    ``model`` is a dataset with trained runs, its folder in the workspace, or the folder of one run. A dataset predicts
    with what was selected for it: configurations, folds and ``postprocessing``, unless that is False. Where nothing was
    selected, or ``configuration`` names one, all its trained folds answer; by default those of the configuration with
    the highest mean Dice over its held-out cases. ``folds`` leaves the others out. A mask has its image's geometry and
    format, and the label values of the training labels. ``probabilities`` also writes ``CASE.probabilities.nii``, one
    channel per label, as they are before postprocessing. Images that cannot be read are told of at the end, in one
    ``ImageError``, when all others are predicted.
    """
    if output.is_file():
        raise UsageError(f"{output} is a file; give the folder for the masks")
    target = torch.device(device_name(device))
    chosen = choose_runs(model, work, configuration, folds)
    rules = chosen.postprocessing if postprocessing else Postprocessing()
    models = load_models(chosen, device=target, mirroring=mirroring, step=step)
    cases = find_images(inputs, len(models[0].plan.channels))
    given = {path.resolve() for case in cases for path in case.images}
    read = _overlapped(lambda case: _read(models, case, output, given), cases)
    seconds: list[float] = []

    def predicted() -> Iterator[_Predicted | ImageError]:
        for done, coming in enumerate(read, start=1):
            started = time.perf_counter()
            outcome = _predict(models, coming, rules, probabilities=probabilities)
            if isinstance(outcome, _Predicted):
                seconds.append(time.perf_counter() - started)
            progress("predict", done, len(cases))
            yield outcome

    with closing(_overlapped(_write, predicted())) as written:  # whatever happens, its thread ends
        masks = _collected(cases, written, output)
    return PredictResult(
        masks=masks,
        configuration=name_of(chosen.configurations),
        folds=chosen.folds,
        seconds_per_case=tuple(seconds),
        selection=chosen.selection,
        postprocessing=rules,
    )


def _collected(cases: Sequence[Case], written: Iterable[Future[Path]], output: Path) -> tuple[Path, ...]:
    """The masks of all cases; one ``ImageError`` in the end tells of those that could not be predicted."""
    masks, faults = [], []
    for case, coming in zip(cases, written, strict=True):
        try:
            masks.append(coming.result())
        except ImageError as error:  # one broken scan must not cost the night that a thousand others take
            faults.append(f"{case.id}: {error}")
    if faults:
        headline = f"{len(faults)} of {len(cases)} cases could not be predicted, the others are in {output}:"
        raise ImageError("\n  ".join([headline, *faults]))
    return tuple(masks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A case that was read: preprocessed for each model, or as an ``Image`` where a network has to see it first."""

    case_id: str
    mask: Path
    grid: StoredGrid
    content: Sequence[PreprocessedCase] | Image


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predicted:
    """A mask that only has to be written, with the values of the training labels."""

    mask: Path
    grid: StoredGrid
    values: np.ndarray


def _overlapped(work: Callable[[T], R], items: Iterable[T]) -> Generator[Future[R], None, None]:
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


def _read(models: Sequence[Model], case: Case, output: Path, given: set[Path]) -> _Job:
    """Read a case, and preprocess it unless one is a cascade; files in ``given`` are not to be overwritten."""
    image = read_channels(case.images)
    mask = output / f"{case.id}{image.stored.mask_suffix}"
    if mask.resolve() in given:
        raise UsageError(f"the mask of {case.id} would overwrite its image {mask}; choose another folder with -o")
    # from here on the grid is enough: the voxels of a large scan are let go
    alone = all(model.configuration.previous_stage is None for model in models)
    content = [ready_case(model, case.id, image) for model in models] if alone else image
    return _Job(case_id=case.id, mask=mask, grid=image.stored, content=content)


def _predict(
    models: Sequence[Model], coming: Future[_Job], rules: Postprocessing, *, probabilities: bool
) -> _Predicted | ImageError:
    """Predict a case as soon as it is read, and write its probabilities if asked for; an image's fault is returned."""
    try:
        job = coming.result()
        content = job.content
        cases = [ready_case(model, job.case_id, content) for model in models] if isinstance(content, Image) else content
    except ImageError as error:
        return error
    labels = models[0].plan.labels
    path = job.mask.parent / f"{job.case_id}{PROBABILITIES_SUFFIX}"
    background = Decision.by(labels).of_nothing
    with channels_written(path, job.grid, background=background) if probabilities else nullcontext() as keep:
        indices = predict_cases(models, cases, keep_probabilities=keep)
    repaired = apply(indices, rules, labels, voxel_ml=job.grid.geometry.voxel_volume_ml)
    return _Predicted(mask=job.mask, grid=job.grid, values=labels.to_values(repaired))


def _write(predicted: _Predicted | ImageError) -> Path:
    """Write a mask and return its path; raises the fault of an image that could not be predicted."""
    if isinstance(predicted, ImageError):
        raise predicted
    write_mask(predicted.mask, predicted.values, predicted.grid)
    return predicted.mask

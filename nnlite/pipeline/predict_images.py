"""Predict raw images with trained runs; the model is loaded once for all of them.

While the network is busy with a case, the one after it is read and preprocessed and the mask of the one before is
written, in a thread each; no more than that is ever under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from nnlite.data.dataset import Case, find_images
from nnlite.data.image import Image, StoredGrid, read_channels, write_mask
from nnlite.data.leftovers import clear_leftovers
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record, write_record
from nnlite.errors import ImageError, UsageError
from nnlite.evaluation.cross_validation import name_of
from nnlite.inference.ensemble import predict_cases
from nnlite.inference.familiarity import Familiarity
from nnlite.inference.postprocess import Postprocessing, apply
from nnlite.inference.predict import Model, ready_case
from nnlite.inference.reliability import ReliabilityMeter
from nnlite.inference.retreat import with_retreat
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.pipeline.case_preview import PREVIEW_SUFFIX, Previews, previews_of
from nnlite.pipeline.case_record import CaseRecord, Recorder, record_path, recorder
from nnlite.pipeline.choose_runs import choose_runs, load_models
from nnlite.pipeline.kept_volumes import ENTROPY_SUFFIX, PROBABILITIES_SUFFIX, volumes_kept
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.plan_dataset import DEFAULT_WORK
from nnlite.pipeline.unfinished_prediction import UnfinishedPrediction, job_of
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import PreprocessedCase

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
    records: tuple[CaseRecord, ...]


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
    exact: bool = False,
    device: str = "auto",
    probabilities: bool = False,
    entropy: bool = False,
    postprocessing: bool = True,
    previews: bool = False,
    progress: Progress = silent,
) -> PredictResult:
    """Segment images (files or folders) and write one mask per case to ``output``.

    ``model`` is a dataset with trained runs, its folder in the workspace, or the folder of one run. A dataset predicts
    with what was selected for it: configurations, folds and ``postprocessing``, unless that is False. Where nothing was
    selected, or ``configuration`` names one, all its trained folds answer; by default those of the configuration with
    the highest mean Dice over its held-out cases. ``folds`` leaves the others out. A mask has its image's geometry and
    format, and the label values of the training labels. ``probabilities`` also writes ``CASE.probabilities.nii``, one
    channel per label, as they are before postprocessing, and ``entropy`` ``CASE.entropy.nii``, how undecided they are.
    ``CASE.prediction.json`` tells how far a mask can be trusted, see ``case_record``. ``previews`` writes
    ``CASE.preview.png``, the mask on slices of its image. ``exact`` is for models that nnU-Net has trained: its
    arithmetic, to the bit. Where the same prediction was interrupted before, it goes on with the cases that are
    missing. Images that cannot be read are told of at the end, in one ``ImageError``, when all others are predicted.
    """
    if output.is_file():
        raise UsageError(f"{output} is a file; give the folder for the masks")
    target = torch.device(device_name(device))
    chosen = choose_runs(model, work, configuration, folds)
    rules = chosen.postprocessing if postprocessing else Postprocessing()
    models = load_models(chosen, device=target, mirroring=mirroring, step=step, exact=exact)
    notes = recorder(chosen, models, [rule.in_words() for rule in rules.rules], mirroring=mirroring)
    cases = find_images(inputs, len(models[0].plan.channels))
    given = {path.resolve() for case in cases for path in case.images}
    clear_leftovers(output, alone=False)
    unfinished = UnfinishedPrediction(output, job_of(models, rules, probabilities, entropy, previews, exact))
    done_before = {case.id: mask for case in cases if (mask := unfinished.mask_of(case)) is not None}
    missing = [case for case in cases if case.id not in done_before]
    read = _overlapped(lambda case: _read(models, notes, case, output, given), missing)
    seconds: list[float] = []
    records = {case_id: read_record(record_path(output, case_id), CaseRecord) for case_id in done_before}

    def predicted() -> Iterator[_Predicted | ImageError]:
        for done, coming in enumerate(read, start=1 + len(done_before)):
            started = time.perf_counter()
            outcome = _predict(models, notes, coming, rules, probabilities=probabilities, entropy=entropy)
            if isinstance(outcome, _Predicted):
                records[outcome.record.case] = outcome.record
                seconds.append(time.perf_counter() - started)
            progress("predict", done, len(cases))
            yield outcome

    beside = _beside(probabilities=probabilities, entropy=entropy, previews=previews)
    drawn = previews_of(cases, models[0].plan) if previews else None
    by_id = {case.id: case for case in missing}

    def write(outcome: _Predicted | ImageError) -> Path:
        mask = _write(outcome, drawn)
        if isinstance(outcome, _Predicted):
            unfinished.note(by_id[outcome.record.case], mask, beside)
        return mask

    with closing(_overlapped(write, predicted())) as written:  # whatever happens, its thread ends
        try:
            masks = done_before | _collected(missing, written, output, len(cases))
        except ImageError:  # all cases were tried
            unfinished.finish()
            raise
    unfinished.finish()
    return PredictResult(
        masks=tuple(masks[case.id] for case in cases),
        configuration=name_of(chosen.configurations),
        folds=chosen.folds,
        seconds_per_case=tuple(seconds),
        selection=chosen.selection,
        postprocessing=rules,
        records=tuple(records[case.id] for case in cases),
    )


def _beside(*, probabilities: bool, entropy: bool, previews: bool) -> list[str]:
    """How the names end of the files that lie beside mask and record."""
    wanted = {PROBABILITIES_SUFFIX: probabilities, ENTROPY_SUFFIX: entropy, PREVIEW_SUFFIX: previews}
    return [suffix for suffix, here in wanted.items() if here]


def _collected(cases: Sequence[Case], written: Iterable[Future[Path]], output: Path, asked_for: int) -> dict[str, Path]:
    """The masks of these of the cases ``asked_for``; an ``ImageError`` in the end tells of those that have none."""
    masks, faults = {}, []
    for case, coming in zip(cases, written, strict=True):
        try:
            masks[case.id] = coming.result()
        except ImageError as error:  # one broken scan must not cost the night that a thousand others take
            faults.append(f"{case.id}: {error}")
    if faults:
        headline = f"{len(faults)} of {asked_for} cases could not be predicted, the others are in {output}:"
        raise ImageError("\n  ".join([headline, *faults]))
    return masks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A case that was read: preprocessed for each model, or as an ``Image`` where a network has to see it first."""

    case_id: str
    mask: Path
    grid: StoredGrid
    seen: Familiarity
    content: Sequence[PreprocessedCase] | Image


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predicted:
    """A mask that only has to be written, with the values of the training labels, and what is told of it."""

    mask: Path
    grid: StoredGrid
    values: np.ndarray
    record: CaseRecord


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


def _read(models: Sequence[Model], notes: Recorder, case: Case, output: Path, given: set[Path]) -> _Job:
    """Read a case, and preprocess it unless one is a cascade; files in ``given`` are not to be overwritten."""
    image = read_channels(case.images, orientation=models[0].arithmetic.orientation)
    mask = output / f"{case.id}{image.stored.mask_suffix}"
    if mask.resolve() in given:
        raise UsageError(f"the mask of {case.id} would overwrite its image {mask}; choose another folder with -o")
    # from here on the grid is enough: the voxels of a large scan are let go
    alone = all(model.configuration.previous_stage is None for model in models)
    content = _ready(models, case.id, image) if alone else image
    return _Job(case_id=case.id, mask=mask, grid=image.stored, seen=notes.look(image), content=content)


def _ready(models: Sequence[Model], case_id: str, image: Image) -> list[PreprocessedCase]:
    """The image as each of the models wants it."""
    return with_retreat(models, lambda lighter: [ready_case(one, case_id, image) for one in lighter], case_id)


def _predict(
    models: Sequence[Model],
    notes: Recorder,
    coming: Future[_Job],
    rules: Postprocessing,
    *,
    probabilities: bool,
    entropy: bool,
) -> _Predicted | ImageError:
    """Predict a case as soon as it is read, and write its probabilities if asked for; an image's fault is returned."""
    try:
        job = coming.result()
        content = job.content
        cases = _ready(models, job.case_id, content) if isinstance(content, Image) else content
    except ImageError as error:
        return error
    labels = models[0].plan.labels
    path = job.mask.parent / job.case_id
    with volumes_kept(path, job.grid, Decision.by(labels), probabilities=probabilities, entropy=entropy) as keep:

        def predict(lighter: Sequence[Model]) -> tuple[np.ndarray, ReliabilityMeter]:
            meter = ReliabilityMeter(labels)
            return predict_cases(lighter, cases, keep_probabilities=keep, meter=meter), meter

        indices, meter = with_retreat(models, predict, job.case_id)
    repaired = apply(indices, rules, labels, voxel_ml=job.grid.geometry.voxel_volume_ml)
    told = notes.record(job.case_id, job.grid, repaired, meter, job.seen)
    return _Predicted(mask=job.mask, grid=job.grid, values=labels.to_values(repaired), record=told)


def _write(predicted: _Predicted | ImageError, previews: Previews | None) -> Path:
    """Write a mask, its record and a preview if asked for; return the mask's path, or raise an image's fault."""
    if isinstance(predicted, ImageError):
        raise predicted
    write_mask(predicted.mask, predicted.values, predicted.grid)
    write_record(record_path(predicted.mask.parent, predicted.record.case), predicted.record)
    if previews is not None:
        previews.write(predicted.mask.parent, predicted.record.case, predicted.values)
    return predicted.mask

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

import torch

from nnlite.data.dataset import Case, find_images
from nnlite.data.leftovers import clear_leftovers
from nnlite.data.memory import keep_freed_memory
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record
from nnlite.errors import ImageError, UsageError
from nnlite.evaluation.cross_validation import name_of
from nnlite.inference.postprocess import Postprocessing
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.pipeline.case_preview import previews_of
from nnlite.pipeline.case_record import CaseRecord, record_path, recorder
from nnlite.pipeline.case_steps import CaseSteps, PredictedCase
from nnlite.pipeline.choose_runs import choose_runs, load_models, with_reference
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.mask_output import OutputFormat, mask_output
from nnlite.pipeline.plan_dataset import DEFAULT_WORK
from nnlite.pipeline.unfinished_prediction import UnfinishedPrediction, job_of

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
    output_format: OutputFormat = "nifti",
    series: str | None = None,
    resample_channels_to: str | None = None,
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
    ``CASE.preview.png``, the mask on slices of its image. ``series`` chooses among the DICOM series of a folder;
    ``output_format`` makes the masks of DICOM images DICOM objects, too, as ``CASE.dcm``. ``exact`` is for models that
    nnU-Net has trained: its arithmetic, to the bit. Channels on other grids are brought to that of the channel
    ``resample_channels_to``, by default the one that the model was trained with. Where the same prediction was
    interrupted before, it goes on with the cases that are missing. Images that cannot be read are told of at the end,
    in one ``ImageError``, when all
    others are predicted.
    """
    if output.is_file():
        raise UsageError(f"{output} is a file; give the folder for the masks")
    keep_freed_memory()
    target = torch.device(device_name(device))
    chosen = choose_runs(model, work, configuration, folds)
    rules = chosen.postprocessing if postprocessing else Postprocessing()
    models = load_models(chosen, device=target, mirroring=mirroring, step=step, exact=exact)
    models = with_reference(models, resample_channels_to)
    plan, cases = models[0].plan, find_images(inputs, len(models[0].plan.channels))
    steps = CaseSteps(
        models=models,
        notes=recorder(chosen, models, [rule.in_words() for rule in rules.rules], mirroring=mirroring),
        rules=rules,
        output=output,
        masks_as=mask_output(cases, plan.labels, output_format, series, channel=plan.reference or 0),
        images=frozenset(path.resolve() for case in cases for path in case.images),
        probabilities=probabilities,
        entropy=entropy,
        previews=previews_of(cases, plan, series) if previews else None,
    )
    clear_leftovers(output, alone=False)
    job = job_of(models, rules, probabilities, entropy, previews, exact, output_format, series)
    done, seconds = _carried_out(steps, cases, UnfinishedPrediction(output, job), progress)
    return PredictResult(
        masks=tuple(mask for mask, _ in done),
        configuration=name_of(chosen.configurations),
        folds=chosen.folds,
        seconds_per_case=seconds,
        selection=chosen.selection,
        postprocessing=rules,
        records=tuple(record for _, record in done),
    )


def _carried_out(
    steps: CaseSteps, cases: Sequence[Case], unfinished: UnfinishedPrediction, progress: Progress
) -> tuple[list[tuple[Path, CaseRecord]], tuple[float, ...]]:
    """Mask and record of each case, and the seconds of those that were not done before."""
    masks = {case.id: mask for case in cases if (mask := unfinished.mask_of(case)) is not None}
    records = {case_id: read_record(record_path(steps.output, case_id), CaseRecord) for case_id in masks}
    missing = [case for case in cases if case.id not in masks]
    read, seconds = _overlapped(steps.read, missing), []

    def predicted() -> Iterator[PredictedCase | ImageError]:
        for number, coming in enumerate(read, start=1 + len(records)):
            started = time.perf_counter()
            outcome = steps.predict(coming)
            if isinstance(outcome, PredictedCase):
                seconds.append(time.perf_counter() - started)
            progress("predict", number, len(cases))
            yield outcome

    def write(outcome: PredictedCase | ImageError) -> PredictedCase:
        written = steps.write(outcome)
        unfinished.note(written.case, written.mask, steps.beside())
        return written

    faults = []
    with closing(_overlapped(write, predicted())) as written:  # whatever happens, its thread ends
        for case, coming in zip(missing, written, strict=True):
            try:
                found = coming.result()
                masks[case.id], records[case.id] = found.mask, found.record
            except ImageError as error:  # one broken scan must not cost the night that a thousand others take
                faults.append(f"{case.id}: {error}")
    unfinished.finish()
    if faults:
        headline = f"{len(faults)} of {len(cases)} cases could not be predicted, the others are in {steps.output}:"
        raise ImageError("\n  ".join([headline, *faults]))
    return [(masks[case.id], records[case.id]) for case in cases], tuple(seconds)


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

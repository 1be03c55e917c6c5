"""Predict raw images with trained runs; the model is loaded once for all of them.

While the network is busy with a case, the one after it is read and preprocessed and the mask of the one before is
written, in a thread each; no more than that is ever under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from nnlite.data.dataset import Case, find_images
from nnlite.data.faults import LISTED_CASES
from nnlite.data.leftovers import clear_leftovers
from nnlite.data.memory import keep_freed_memory
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record
from nnlite.errors import ImageError, UsageError
from nnlite.evaluation.cross_validation import name_of
from nnlite.inference.postprocess import Postprocessing
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.pipeline.case_record import CaseRecord, record_path
from nnlite.pipeline.case_steps import CaseSteps, PredictedCase
from nnlite.pipeline.cluster import AUTO, NONE, cluster_for, workers
from nnlite.pipeline.cluster_cases import Errand, for_workers, opened, predict_on_worker, rules_of, steps_of
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.mask_output import OutputFormat
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
    cluster: str = NONE,
    resample_channels_to: str | None = None,
    depth: int | None = None,
    progress: Progress = silent,
) -> PredictResult:
    """Segment images (files or folders) and write one mask per case to ``output``.

    ``model`` is a dataset with trained runs, its folder in the workspace, the folder of one run, or a model file, which
    needs no workspace. A dataset predicts with what was selected for it: configurations, folds and ``postprocessing``,
    unless that is False. Where nothing was selected, or ``configuration`` names one, all its trained folds answer; by
    default those of the configuration with the highest mean Dice over its held-out cases. ``folds`` leaves the others
    out. A mask has its image's geometry and format, and the label values of the training labels. ``probabilities`` also
    writes ``CASE.probabilities.nii``, one channel per label, as they are before postprocessing, and ``entropy``
    ``CASE.entropy.nii``, how undecided they are. ``CASE.prediction.json`` tells how far a mask can be trusted, see
    ``case_record``. ``previews`` writes ``CASE.preview.png``, the mask on slices of its image. ``series`` chooses among
    the DICOM series of a folder; ``output_format`` makes the masks of DICOM images DICOM objects, too, as ``CASE.dcm``.
    ``exact`` is for models that nnU-Net has trained: its arithmetic, to the bit. Channels on other grids are brought to
    that of the channel ``resample_channels_to``, by default the one that the model was trained with. ``depth`` prunes a
    U-Net++, from 1 to all of it: faster. Less of it, and masks without the selected postprocessing, come without the
    Dice to expect. Where the same prediction was interrupted before, it goes on with the cases that are missing. Images
    that cannot be read are told of at the end, in one ``ImageError``, when all others are predicted. The workers of a
    ``cluster`` take a case each (see ``cluster_for``); ``device`` is then theirs.
    """
    if output.is_file():
        raise UsageError(f"{output} is a file; give the folder for the masks")
    keep_freed_memory()
    errand = Errand(
        model=model,
        work=work,
        configuration=configuration,
        folds=tuple(folds),
        postprocessing=postprocessing,
        output=output,
        device=device,
        mirroring=mirroring,
        step=step,
        exact=exact,
        resample_channels_to=resample_channels_to,
        depth=depth,
        probabilities=probabilities,
        entropy=entropy,
        previews=previews,
        output_format=output_format,
        series=series,
    )
    here = device_name(device) if cluster in (AUTO, NONE) else "cpu"  # the device of others may not be there
    trained = opened(errand, torch.device(here))
    models, rules = trained.models, rules_of(errand, trained)
    cases = find_images(inputs, len(models[0].plan.channels))
    steps = steps_of(errand, trained, cases)
    clear_leftovers(output, alone=False)
    job = job_of(models, rules, probabilities, entropy, previews, exact, output_format, series, depth)
    unfinished = UnfinishedPrediction(output, job)
    if (address := cluster_for(cluster, device, len(cases))) is None:
        done, seconds = _carried_out(steps, cases, unfinished, progress)
    else:
        done, seconds = _carried_out_on(address, errand, cases, unfinished, progress)
    return PredictResult(
        masks=tuple(mask for mask, _ in done),
        configuration=name_of(trained.configurations),
        folds=trained.folds,
        seconds_per_case=seconds,
        selection=trained.selection,
        postprocessing=rules,
        records=tuple(record for _, record in done),
    )


def _carried_out(
    steps: CaseSteps, cases: Sequence[Case], unfinished: UnfinishedPrediction, progress: Progress
) -> tuple[list[tuple[Path, CaseRecord]], tuple[float, ...]]:
    """Mask and record of each case, and the seconds of those that were not done before."""
    masks, records = _done_before(cases, unfinished)
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
        unfinished.note(written.case, written.mask, (*steps.beside(), *written.beside()))
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
    _tell_of(faults, cases, steps.output)
    return [(masks[case.id], records[case.id]) for case in cases], tuple(seconds)


def _carried_out_on(
    cluster: str, errand: Errand, cases: Sequence[Case], unfinished: UnfinishedPrediction, progress: Progress
) -> tuple[list[tuple[Path, CaseRecord]], tuple[float, ...]]:
    """The same by the workers of a cluster; the order in which they finish is theirs."""
    masks, records = _done_before(cases, unfinished)
    errand.output.mkdir(parents=True, exist_ok=True)
    sees = [errand.output, *dict.fromkeys(path.parent for case in cases[:LISTED_CASES] for path in case.images)]
    sees += [errand.model if errand.model.exists() else errand.work]
    seconds, faults, sent = [], [], for_workers(errand)
    with workers(cluster, sees=sees) as pool:
        coming = {pool.submit(predict_on_worker, _absolute(case), sent): case for case in cases if case.id not in masks}
        try:
            for number, future in enumerate(as_completed(coming), start=1 + len(masks)):
                case = coming[future]
                progress("predict", number, len(cases))
                try:
                    written = future.result()
                except ImageError as error:
                    faults.append(f"{case.id}: {error}")
                    continue
                mask = errand.output / written.mask.name
                unfinished.note(case, mask, written.beside)
                masks[case.id], records[case.id] = mask, written.record
                seconds.append(written.seconds)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    unfinished.finish()
    _tell_of(faults, cases, errand.output)
    return [(masks[case.id], records[case.id]) for case in cases], tuple(seconds)


def _done_before(
    cases: Sequence[Case], unfinished: UnfinishedPrediction
) -> tuple[dict[str, Path], dict[str, CaseRecord]]:
    """Mask and record of each case that an earlier sitting has finished."""
    masks = {case.id: mask for case in cases if (mask := unfinished.mask_of(case)) is not None}
    records = {case_id: read_record(record_path(unfinished.output, case_id), CaseRecord) for case_id in masks}
    return masks, records


def _tell_of(faults: Sequence[str], cases: Sequence[Case], output: Path) -> None:
    """Raise what was wrong with images, once all others are predicted."""
    if faults:
        headline = f"{len(faults)} of {len(cases)} cases could not be predicted, the others are in {output}:"
        raise ImageError("\n  ".join([headline, *faults]))


def _absolute(case: Case) -> Case:
    """A case whose images are found from any folder."""
    return replace(case, images=tuple(path.absolute() for path in case.images))


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

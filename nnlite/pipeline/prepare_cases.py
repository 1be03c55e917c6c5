"""Preprocess the cases of a dataset: each is read once for all configurations, several at a time, and kept on disk.

What is finished stays: an interrupted run goes on where it stopped, and a new plan that preprocesses alike keeps the
cases. A case whose files were written since is made again.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path

from nnlite.data.dataset import Dataset
from nnlite.data.image import image_suffix
from nnlite.data.leftovers import clear_leftovers
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record, record, write_record
from nnlite.errors import StoppedError, WorkspaceError
from nnlite.pipeline.cluster import NONE, workers
from nnlite.pipeline.dataset_source import case_signatures, edited_cases, in_words, listed, refuse_other_cases
from nnlite.pipeline.machine import workers_within_memory
from nnlite.pipeline.make_case import MissingCase, make_case
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset, read_plan
from nnlite.pipeline.plan_request import read_plan_file
from nnlite.pipeline.training_lock import preprocessing, refuse_cases_in_use
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.planner import Configuration, Plan
from nnlite.planning.variants import parted
from nnlite.preprocessing.store import CaseStore, signature
from nnlite.workspace import RunFolder, Workspace

WAITING_FOR_DISK = 2  # cases at a time: each file is flushed before it gets its name, which takes as long as making it
COPIES_PER_CASE = 6  # float32 volumes alive at the same time while one case is read, normalised and resampled

logger = logging.getLogger(__name__)


@record
class CaseSources:
    """The signatures of the files that the cases of a store were made from, by case id."""

    cases: dict[str, str]


def preprocess(
    dataset: Path,
    configurations: Sequence[str] = (),
    *,
    work: Path = DEFAULT_WORK,
    cluster: str = NONE,
    progress: Progress = silent,
) -> dict[str, Path]:
    """Make the cases of these configurations ready (of all but a cascade, if none is named); returns their folders.

    The second stage of a cascade needs the low-resolution predictions of all held-out cases, so it is prepared when
    asked for, after the first stage was trained on all folds. The workers of a ``cluster`` take a case each.
    """
    if cluster == NONE:
        return preprocess_with(None, dataset, configurations, work=work, progress=progress)
    found, workspace = locate_dataset(dataset, work)
    with workers(cluster, sees=[found.root, workspace.plan]) as pool:
        return preprocess_with(pool, dataset, configurations, work=work, progress=progress)


def preprocess_with(
    pool: Executor | None,
    dataset: Path,
    configurations: Sequence[str] = (),
    *,
    work: Path = DEFAULT_WORK,
    progress: Progress = silent,
) -> dict[str, Path]:
    """The same, by those of ``pool``; None are threads of this process."""
    found, workspace = locate_dataset(dataset, work)
    names = configurations or [
        name for name, c in read_plan(workspace).configurations.items() if c.previous_stage is None
    ]
    folders: dict[str, Path] = {}
    for variant, same in itertools.groupby(names, key=lambda name: parted(name)[1]):
        plan = read_plan(workspace, variant)
        wanted = [plan.configuration(name) for name in same]
        folders |= prepare(found, workspace, plan, wanted, pool=pool, progress=progress)
    return folders


def store_name(workspace: Workspace, plan: Plan, configuration: Configuration) -> str:
    """Under which configuration's name its preprocessed cases lie: variants that preprocess alike share those."""
    kind, variant = parted(configuration.name)
    if variant is not None and workspace.plan.exists():
        own = read_plan_file(workspace.plan)
        if kind in own.configurations and signature(own, own.configuration(kind)) == signature(plan, configuration):
            return kind
    return configuration.name


def prepare(
    dataset: Dataset,
    workspace: Workspace,
    plan: Plan,
    configurations: Sequence[Configuration],
    *,
    pool: Executor | None = None,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Path]:
    """Preprocess what is missing or edited for these configurations of one plan; returns the folder of each.

    Waits for another process that preprocesses in this workspace. Raises ``WorkspaceError`` if the dataset has other
    cases than the plan, or if another process uses cases that would have to be replaced; ``StoppedError`` when ``stop``
    says so, with all cases that are under way finished.
    """
    refuse_other_cases(dataset, workspace, parted(configurations[0].name)[1])
    with preprocessing(workspace):
        return _prepare(dataset, workspace, plan, configurations, pool=pool, progress=progress, stop=stop)


def _prepare(
    dataset: Dataset,
    workspace: Workspace,
    plan: Plan,
    configurations: Sequence[Configuration],
    *,
    pool: Executor | None,
    progress: Progress,
    stop: Callable[[], bool],
) -> dict[str, Path]:
    if edited := edited_cases(dataset, workspace, parted(configurations[0].name)[1]):
        logger.warning(
            "%s: %s of another size or date than when it was planned (%s), and taken as found now; "
            "run nnlite plan again if spacings, intensities or labels have changed",
            dataset.name,
            in_words(edited),
            listed(edited),
        )
    previous = {
        c.name: _held_out_masks(workspace, dataset, c.previous_stage) for c in configurations if c.previous_stage
    }
    places = {c.name: store_name(workspace, plan, c) for c in configurations}
    stores = {name: CaseStore(workspace.cases(place)) for name, place in places.items()}
    for configuration in configurations:
        masks = previous.get(configuration.name, {})
        store, made_for = stores[configuration.name], signature(plan, configuration) + _digest(masks)
        if not store.is_for(made_for):
            refuse_cases_in_use(workspace, places[configuration.name])
        clear_leftovers(store.folder, alone=True)
        store.prepare(made_for)
        _discard_outdated(stores[configuration.name], case_signatures(dataset))

    todo = []
    for case in dataset.cases:
        missing = [
            MissingCase(
                configuration=c, folder=stores[c.name].folder, first_stage=previous.get(c.name, {}).get(case.id)
            )
            for c in configurations
            if not stores[c.name].has(case.id)
        ]
        if missing:
            todo.append((case, missing))

    with nullcontext(pool) if pool else ThreadPoolExecutor(_threads(workspace, plan, configurations)) as pool:
        running = [pool.submit(make_case, case, plan, missing) for case, missing in todo]
        try:
            for done, future in enumerate(as_completed(running), start=1):
                future.result()
                progress("preprocess", done, len(todo))
                if stop() and done < len(todo):
                    raise StoppedError(f"preprocessing was stopped after {done} of {len(todo)} cases, which are kept")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {name: store.folder for name, store in stores.items()}


def _discard_outdated(store: CaseStore, signatures: Mapping[str, str]) -> None:
    """Forget cases that were made from other files than those that are there now, then note what is made from these."""
    notes = store.folder / "sources.json"
    made_from = read_record(notes, CaseSources).cases if notes.exists() else {}
    for case_id, now in signatures.items():
        if made_from.get(case_id, now) != now:
            store.discard(case_id)
    if made_from != signatures:
        write_record(notes, CaseSources(cases=dict(signatures)))


def _held_out_masks(workspace: Workspace, dataset: Dataset, stage: str) -> dict[str, Path]:
    """For every case, the mask that the first stage of a cascade predicted when the case was held out."""
    masks = {
        path.name.removesuffix(image_suffix(path) or ""): path
        for run in workspace.existing_runs()
        if run.configuration == stage and is_scored(run)
        for path in sorted(run.validation.iterdir())
    }
    missing = [case.id for case in dataset.cases if case.id not in masks]
    if missing:
        variant = parted(stage)[1]
        trained_otherwise = variant is not None and not workspace.plan_of(variant).exists()
        alike = " with the options of the second" if trained_otherwise else ""
        raise WorkspaceError(
            f"a cascade starts from the {stage} predictions of held-out cases, and {len(missing)} of "
            f"{len(dataset.cases)} cases have none; train all folds of the first stage{alike}: "
            f"nnlite train {dataset.root} {stage} folds --work {workspace.root}"
        )
    return masks


def is_scored(run: RunFolder) -> bool:
    """Whether a training is finished and its held-out cases are predicted and scored."""
    return run.checkpoint_final.exists() and run.summary.exists()


def _digest(masks: dict[str, Path]) -> str:
    """Changes whenever a mask does, so that a cascade follows a first stage that was trained anew."""
    if not masks:
        return ""
    content = hashlib.sha256()
    for path in masks.values():
        content.update(path.read_bytes())
    return "-" + content.hexdigest()[:16]


def _threads(workspace: Workspace, plan: Plan, configurations: Sequence[Configuration]) -> int:
    """How many cases the memory of this machine allows at a time."""
    return workers_within_memory(_bytes_per_case(workspace, plan, configurations), waiting=WAITING_FOR_DISK)


def _bytes_per_case(workspace: Workspace, plan: Plan, configurations: Sequence[Configuration]) -> int:
    """Memory that the largest case may take while it is preprocessed."""
    fingerprint = read_record(workspace.fingerprint, Fingerprint)
    channels = len(plan.image_channels) + plan.labels.count
    largest = 0
    for shape, spacing in zip(fingerprint.shapes_after_crop, fingerprint.spacings_mm, strict=True):
        voxels = math.prod(shape)
        largest = max(largest, voxels)
        for configuration in configurations:
            target = configuration.spacing_mm
            extent = [spacing[axis] for axis in plan.transpose][-len(target) :]
            finer = math.prod(old / new for old, new in zip(extent, target, strict=True))
            largest = max(largest, int(voxels * finer))
    return largest * channels * 4 * COPIES_PER_CASE

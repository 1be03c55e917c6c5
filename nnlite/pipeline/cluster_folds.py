"""The folds of a cross-validation on the workers of a cluster, a task each.

The cases are preprocessed first, so that the folds do not wait for one another. A fold whose worker died goes on where
its state was saved, on another worker. Each writes its log as ever: ``nnlite status`` tells how far they are.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record
from nnlite.errors import StoppedError
from nnlite.pipeline.cluster import require_distributed, workers
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset, read_plan
from nnlite.pipeline.prepare_cases import preprocess_with
from nnlite.pipeline.process_lock import VOID_AFTER_S
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.run_status import is_finished
from nnlite.pipeline.train_folds import TrainResult, fold_names, train
from nnlite.pipeline.training_lock import lock_holder
from nnlite.planning.variants import parted
from nnlite.training.initial_weights import InitialWeights
from nnlite.workspace import RunFolder

if TYPE_CHECKING:
    from distributed import Event

LOOK_EVERY_S = 2.0  # how often a request to stop is looked for, here and on the workers
LOCK_PATIENCE_S = VOID_AFTER_S + 60  # after that a lock is held by a process that lives


def train_on_cluster(
    dataset: Path,
    configuration: str,
    folds: Sequence[str],
    *,
    cluster: str,
    work: Path = DEFAULT_WORK,
    init_from: Path | None = None,
    on_init: Callable[[str, InitialWeights], None] = lambda fold, initial: None,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> tuple[TrainResult, ...]:
    """Train these folds as ``train`` does, with its ``options``, each on a worker of the ``cluster``.

    ``on_init`` is told of each fold that begins with a model's weights, and of these. When ``stop`` says so, folds that
    are under way save their state, and ``StoppedError`` is raised. Where folds fail, the others are finished before the
    first error is raised.
    """
    require_distributed()
    from distributed import Event

    names = fold_names(dataset, folds, work=work)
    _, workspace = locate_dataset(dataset, work)
    plan = read_plan(workspace, parted(configuration)[1])
    plan.configuration(configuration)  # a misspelt name is refused before a cluster is asked
    if init_from is not None and init_from.exists():  # else it is a name in the workspace
        init_from = init_from.absolute()
    options["init_from"] = init_from
    beginnings = _Beginnings([workspace.run(configuration, name) for name in names], on_init)
    with workers(cluster, sees=[dataset, workspace.plan]) as pool:
        if not all(is_finished(workspace.run(configuration, name)) for name in names):
            preprocess_with(pool, dataset, (configuration,), work=work, progress=progress)
        request = Event(f"nnlite-stop-{uuid.uuid4().hex}", client=pool.client)
        what = (dataset.absolute(), configuration, work.absolute(), request.name, options)
        running = {name: pool.submit(train_fold, name, *what) for name in names}
        try:
            _wait_for(running.values(), request, progress, stop, beginnings)
        except BaseException:
            with suppress(OSError, TimeoutError):  # the cluster itself may be what failed
                request.set()
            pool.shutdown(cancel_futures=True)
            raise
    errors = [error for future in running.values() if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda one: isinstance(one, StoppedError)):
        raise error
    return tuple(future.result() for future in running.values())


class _Beginnings:
    """Tells of the weights that folds begin with, once each has begun: its worker notes them in its config.json."""

    def __init__(self, runs: Sequence[RunFolder], told: Callable[[str, InitialWeights], None]):
        self._told = told
        self._awaited = [run for run in runs if not run.config.exists()]  # the others only go on

    def look(self) -> None:
        """Tell of the folds that have begun since the last look."""
        for run in [run for run in self._awaited if run.config.exists()]:
            self._awaited.remove(run)
            initial = read_record(run.config, RunConfig).initial
            if initial is not None:
                self._told(run.fold, initial)


def _wait_for(
    running: Collection[Future],
    request: Event,
    progress: Progress,
    stop: Callable[[], bool],
    beginnings: _Beginnings,
) -> None:
    """Wait until all folds have ended, which they are asked to do soon when ``stop`` says so."""
    waiting, asked = set(running), False
    while waiting:
        done, waiting = wait(waiting, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
        beginnings.look()
        if done:
            progress("train folds", len(running) - len(waiting), len(running))
        if stop() and not asked:
            asked = True
            request.set()


def train_fold(
    fold: str, dataset: Path, configuration: str, work: Path, stop_request: str, options: dict[str, Any]
) -> TrainResult:
    """Train one fold in a worker. After another worker has died it waits until the lock of that one is void."""
    _, workspace = locate_dataset(dataset, work)
    run, since = workspace.run(configuration, fold), time.monotonic()
    asked = _Asked(stop_request)
    while lock_holder(run) is not None and time.monotonic() - since < LOCK_PATIENCE_S and not asked():
        time.sleep(LOOK_EVERY_S)
    if asked():
        raise StoppedError(f"{configuration} {fold} was not begun")
    [result] = train(dataset, configuration, (fold,), work=work, stop=asked, **options)
    return result


class _Asked:
    """Whether the command that wanted the folds asks them to stop; the scheduler is not bothered at every step."""

    def __init__(self, name: str):
        from distributed import Event

        self._event, self._answer, self._looked_s = Event(name), False, 0.0

    def __call__(self) -> bool:
        if not self._answer and time.monotonic() - self._looked_s > LOOK_EVERY_S:
            self._answer, self._looked_s = bool(self._event.is_set()), time.monotonic()
        return self._answer

"""Other machines, or other GPUs of this one: dask.distributed hands cases and folds to the workers of a cluster.

dask does what a scheduler does: it knows who is free, and gives the task of a worker that died to another one. What a
task makes lies in files that appear whole, so a task that is done again leaves the same files once. All workers must
see the dataset and the workspace in the same place, and have this version of nnlite: looked at before the first task,
and by each task, since workers may join later. Needs the extra ``cluster``.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nnlite.errors import ProcessLostError, UsageError, WorkspaceError
from nnlite.pipeline.machine import cores, device_name

AUTO, NONE, LOCAL = "auto", "none", "local"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # dask sets both to 1, and torch takes the smaller
CORES_PER_WORKER = 4  # of a local cluster without GPUs: beyond that a network on a CPU gains little
SOON_S = 10  # within which workers join that are there at all; others wait in a batch queue

logger = logging.getLogger(__name__)


class Workers(Executor):
    """The workers of a cluster, as an executor of ``concurrent.futures``.

    What is submitted must be importable and its arguments small; the first one names the task: a case, or a text. An
    error arrives with the traceback of its worker.
    """

    def __init__(self, client: Any, sees: Sequence[Path]):
        self.client, self._sees = client, tuple(sees)
        self._executor = client.get_executor(pure=False)
        self._pending: set[Future] = set()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future:
        """Have a task done by whichever worker is free."""
        name = str(getattr(arguments[0], "id", arguments[0]))
        task = (version("nnlite"), self._sees, function, arguments, options)
        # the key is what dask calls the task in its own messages and on its dashboard
        future = self._executor.submit(on_worker, *task, key=f"{name}-{uuid.uuid4().hex[:8]}")
        told: Future = Future()
        self._pending.add(future)
        future.add_done_callback(lambda done: self._hand_on(done, told, name))
        return told

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let go of tasks that have not begun, if ``cancel_futures`` says so."""
        if cancel_futures:
            for future in list(self._pending):
                future.cancel()
        self._executor.shutdown(wait=wait and not cancel_futures)

    def _hand_on(self, done: Future, told: Future, name: str) -> None:
        self._pending.discard(done)
        if done.cancelled():
            told.cancel()
        elif (error := done.exception()) is not None:
            logger.info("%s failed on a worker", name, exc_info=error)
            told.set_exception(_in_words(error, name))
        else:
            told.set_result(done.result())


def on_worker(
    wanted: str, sees: Sequence[Path], function: Callable[..., Any], arguments: Sequence[Any], options: dict[str, Any]
) -> Any:
    """Do a task in a worker that fits."""
    if (here := version("nnlite")) != wanted:
        raise UsageError(f"this worker has nnlite {here}, not {wanted}; install the same version everywhere")
    if missing := [str(path) for path in sees if not path.exists()]:
        raise WorkspaceError(f"this worker does not see {', '.join(missing)}; {SHARE}")
    return function(*arguments, **options)


SHARE = "dataset, workspace and outputs must lie on a file system that all machines share, in the same place"


@contextmanager
def workers(address: str, *, sees: Sequence[Path]) -> Iterator[Workers]:
    """The workers of the cluster at ``address``: a scheduler's tcp://host:port, its JSON file, or "local".

    ``sees`` are paths that all of them must see. "local" is a cluster for as long as the block runs, with a worker per
    GPU; where there is none, one per ``CORES_PER_WORKER`` cores. ``UsageError`` and ``WorkspaceError`` tell what is not
    as it should be. Waits for the first worker, which may stand in a queue.
    """
    require_distributed()
    absolute = [path.absolute() for path in sees]
    with _client(address) as client:
        try:
            client.wait_for_workers(1, timeout=SOON_S)
        except TimeoutError:
            logger.warning("waiting for the first worker of the cluster at %s", address)
            client.wait_for_workers(1)
        _look_at(client, absolute)
        yield Workers(client, absolute)


def require_distributed() -> None:
    """Raise ``UsageError`` where the extra is missing."""
    if find_spec("distributed") is None:
        raise UsageError("--cluster needs dask.distributed, which is not installed: pip install 'nnlite[cluster]'")


def cluster_for(address: str, device: str, tasks: int) -> str | None:
    """The cluster to use, None for none: "auto" takes a local one where several GPUs wait for several tasks.

    Several cores are no reason for one: all steps use them already.
    """
    if address != AUTO:
        return None if address == NONE else address
    if tasks < 2 or device_name(device) != "cuda" or find_spec("distributed") is None:
        return None
    import torch

    return LOCAL if torch.cuda.device_count() > 1 else None


@contextmanager
def _client(address: str) -> Iterator[Any]:
    from distributed import Client

    if address == LOCAL:
        with _local_cluster() as cluster, Client(cluster) as client:
            yield client
        return
    if "://" not in address and not Path(address).is_file():
        raise UsageError(
            f"there is no cluster {address}: give local, a scheduler's address as tcp://host:8786, or the JSON file "
            "that it has written"
        )
    try:
        client = Client(address) if "://" in address else Client(scheduler_file=address)
    except (OSError, ValueError) as error:
        raise UsageError(f"no scheduler answers at {address} ({error}); start it, or look for a newer file") from error
    with client:
        yield client


def _local_cluster() -> Any:
    """A cluster of processes of this machine, each with a GPU or with some cores of its own."""
    import torch
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = [torch.cuda.get_device_properties(number).uuid for number in range(torch.cuda.device_count())]
    count = len(gpus) or max(1, cores() // CORES_PER_WORKER)
    threads = dict.fromkeys(THREADS, str(max(1, cores() // count)))
    environments = [threads | {"CUDA_VISIBLE_DEVICES": f"GPU-{gpu}"} for gpu in gpus] or [threads] * count
    # no memory limit: dask would kill a worker at it, where nnlite retreats
    options = {"nthreads": 1, "memory_limit": 0}
    spec = {number: {"cls": Nanny, "options": {**options, "env": env}} for number, env in enumerate(environments)}
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": ":0"},
    }
    return SpecCluster(workers=spec, scheduler=scheduler, silence_logs=logging.ERROR)


def _look_at(client: Any, sees: Sequence[Path]) -> None:
    """Raise an error if the workers that are there cannot do the work; what is run there needs no nnlite."""
    here = version("nnlite")
    for worker, found in client.run(version, "nnlite", on_error="return").items():
        if isinstance(found, PackageNotFoundError):
            raise UsageError(f"the worker {worker} has no nnlite; install version {here} in its environment")
        if found != here:
            raise UsageError(f"the worker {worker} has nnlite {found}, not {here}; install the same version everywhere")
    for path in sees:
        for worker, found in client.run(os.path.exists, str(path), on_error="return").items():
            if found is not True:
                raise WorkspaceError(f"the worker {worker} does not see {path}; {SHARE}")
    for worker, threads in client.nthreads().items():
        if threads > 1:
            raise UsageError(
                f"the worker {worker} would do {threads} tasks at a time, which compete for its memory; start workers "
                "with --nthreads 1: a task uses several cores by itself"
            )


def _in_words(error: BaseException, name: str) -> BaseException:
    """dask's own errors, in the words of who asked for a task."""
    kind = type(error).__name__
    if kind == "KilledWorker":
        return ProcessLostError(
            f"{name}: the workers that did it died, one after the other ({error}); most often the memory was too "
            "small: look into their logs, and give them more"
        )
    if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("nnlite"):
        return UsageError(f"{name}: a worker has no nnlite, or another version; install {version('nnlite')} everywhere")
    return error

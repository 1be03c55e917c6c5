"""One training on several processes, as torchrun starts them: the first one leads, the others follow it.

The leader does all that it does alone: it locks, preprocesses, decides what is left to do, writes, and in the end
predicts the held-out cases. Whenever a fold is to be trained it tells the others what, and all train it together. The
others write nothing, so that each file has one writer and what goes on after an interruption is decided in one place;
the price is that they wait while the held-out cases are predicted. All need to see the same workspace.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from nnlite.data.faults import LISTED_CASES
from nnlite.data.memory import keep_freed_memory
from nnlite.data.records import from_json, record, to_json
from nnlite.data.split import Split
from nnlite.errors import UsageError, WorkspaceError
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.plan_dataset import DEFAULT_WORK
from nnlite.pipeline.prepare_cases import store_name
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.planner import Plan
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.training.config import TrainConfig
from nnlite.training.ranks import Ranks, joined
from nnlite.training.train import train as train_network
from nnlite.workspace import Workspace

NOTHING_MORE = b""  # what the leader tells when all folds are done


@record
class JointFold:
    """What the leader tells the others of a fold that is to be trained, or trained on, with what preprocessed cases."""

    dataset: str
    plan: Plan
    configuration: str
    cases: str
    fold: str
    train: TrainConfig
    split: Split


@contextmanager
def processes(number: int, count: int, *, local_number: int, device: str = "auto") -> Iterator[Ranks]:
    """Join the processes of a training as ``number`` of ``count``; the leader tells the others when it leaves.

    Each takes the GPU of its ``local_number`` on its machine. ``UsageError`` where there are fewer GPUs, or where some
    of the machines have none.
    """
    kind = device_name(device)
    if kind == "cuda" and local_number >= (there := torch.cuda.device_count()):
        raise UsageError(
            f"{platform.node()} has {there} GPUs, and torchrun has started process {local_number} (from 0) on it; "
            f"start one process per GPU: torchrun --nproc-per-node {there}"
        )
    with joined(number, count, torch.device(kind, local_number) if kind == "cuda" else torch.device(kind)) as ranks:
        with_gpu = int(ranks.total(torch.tensor(int(kind == "cuda"))))
        if with_gpu not in (0, count):
            raise UsageError(
                f"of {count} processes {with_gpu} have a GPU and the others none ({platform.node()}: {kind}); start "
                "them where all have one, or train with --device cpu"
            )
        yield ranks
        if ranks.leads:
            ranks.tell(NOTHING_MORE, patiently=True)


def own_device(device: str, ranks: Ranks) -> torch.device:
    """The device of this process: a machine's GPUs belong to a process each."""
    kind = device_name(device)
    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" and ranks.count > 1 else torch.device(kind)


def announce(ranks: Ranks, workspace: Workspace, job: RunConfig, split: Split) -> None:
    """Tell the others which fold is trained now; they begin."""
    if ranks.count == 1:
        return
    fold = JointFold(
        dataset=workspace.dataset,
        plan=job.plan,
        configuration=job.configuration,
        cases=store_name(workspace, job.plan, job.plan.configuration(job.configuration)),
        fold=job.fold,
        train=job.train,
        split=split,
    )
    ranks.tell(to_json(fold).encode(), patiently=True)


def follow(
    ranks: Ranks,
    *,
    work: Path = DEFAULT_WORK,
    device: str = "auto",
    transforms: Sequence[Callable[..., dict]] = (),
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train along with what the leader announces, until it has nothing more; ``transforms`` are to be the leader's."""
    keep_freed_memory()
    while told := ranks.tell(patiently=True):
        job = from_json(told.decode(), JointFold, source="what the first process told")
        store = CaseStore(Workspace(root=work, dataset=job.dataset).cases(job.cases))
        train_network(
            job.plan,
            job.plan.configuration(job.configuration),
            job.train,
            fold=job.fold,
            training_cases=_seen(store, job.split.train),
            validation_cases=_seen(store, job.split.validation),
            files=None,
            device=own_device(device, ranks),
            ranks=ranks,
            transforms=transforms,
            stop=stop,
        )


def _seen(store: CaseStore, case_ids: Sequence[str]) -> dict[str, StoredCase]:
    """These cases; ``WorkspaceError`` where the leader sees them and this process does not."""
    missing = [case_id for case_id in case_ids if not store.has(case_id)]
    if missing:
        raise WorkspaceError(
            f"{platform.node()} does not see {len(missing)} preprocessed cases in {store.folder.absolute()} "
            f"({', '.join(missing[:LISTED_CASES])}), which the first process has; all machines need the workspace in "
            "the same place: choose a --work on a file system that they share"
        )
    return {case_id: store.open(case_id) for case_id in case_ids}

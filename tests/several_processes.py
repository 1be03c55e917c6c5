"""Real processes that train together, for tests: each joins by gloo, runs a function, and gives back its result."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from nnlite.training.ranks import Ranks, joined

PATIENCE_S = 300.0  # of a busy machine; what these processes do takes seconds
Work = Callable[[Ranks, Path], Any]
Join = Callable[[int, int], AbstractContextManager[Ranks]]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def joined_on_cpu(number: int, count: int) -> AbstractContextManager[Ranks]:
    """The bare processes."""
    return joined(number, count, torch.device("cpu"))


def joined_by_pipeline(number: int, count: int) -> AbstractContextManager[Ranks]:
    """As the command line joins them: the first process tells the others when it is done."""
    from nnlite import pipeline

    return pipeline.processes(number, count, local_number=number, device="cpu")


def together(work: Work, folder: Path, count: int = 2, *, join: Join = joined_on_cpu) -> list[Any]:
    """What ``work`` returns in each of so many processes; an exception is returned as it is, and ends its process."""
    context, port = multiprocessing.get_context("spawn"), free_port()
    processes = [
        context.Process(target=_begin, args=(work, folder, number, count, port, join)) for number in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
        if process.exitcode is None:
            for one in processes:
                one.kill()
            raise AssertionError("a process waits for ever")
    return [pickle.loads((folder / f"result{number}").read_bytes()) for number in range(count)]


def _begin(work: Work, folder: Path, number: int, count: int, port: int, join: Join) -> None:
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    torch.set_num_threads(1)
    try:
        with join(number, count) as ranks:
            result = work(ranks, folder)
    except Exception as error:
        result = error
    (folder / f"result{number}").write_bytes(pickle.dumps(result))

"""A dask cluster of two workers, started once for all tests that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers."""
    distributed = pytest.importorskip("distributed")
    # as many as here: with others, sums are rounded otherwise
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(torch.get_num_threads()))
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None, "env": threads}
    with distributed.LocalCluster(**options, silence_logs=50) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def worker_processes(scheduler: str) -> list[int]:
    """The process ids of the workers, once there are two."""
    from distributed import Client

    with Client(scheduler) as client:
        client.wait_for_workers(2, timeout=60)
        return list(client.run(os.getpid).values())

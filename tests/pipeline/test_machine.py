"""What a machine is asked for: cores, memory, devices."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from nnlite.errors import UsageError
from nnlite.pipeline import machine


def test_there_is_a_core_on_systems_without_affinity_too(monkeypatch: pytest.MonkeyPatch):
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores() == 1


@pytest.mark.parametrize(("gib_each", "workers"), [(0, 8), (1, 5), (2.5, 2), (5, 1), (100, 1)])
def test_workers_share_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch, gib_each: float, workers: int):
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * 2**30))
    assert machine.workers_within_memory(int(gib_each * 2**30)) == workers


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, gpu: bool, device: str):
    monkeypatch.setattr(machine, "has_gpu", lambda: gpu)
    assert machine.device_name("auto") == device
    assert machine.device_name("cpu") == "cpu"


def test_a_gpu_that_is_not_there_and_a_device_that_does_not_exist_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    with pytest.raises(UsageError, match="torch sees no CUDA GPU on this machine; use --device cpu"):
        machine.device_name("cuda")
    with pytest.raises(UsageError, match='there is no device "tpu"; it is one of auto, cpu, cuda'):
        machine.device_name("tpu")


def test_memory_is_counted_in_gib(monkeypatch: pytest.MonkeyPatch):
    import torch

    properties = SimpleNamespace(total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    assert machine.gpu_memory_gib() == 24


def test_without_a_driver_torch_is_not_asked_for_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "NVIDIA_DRIVERS", ("libno-such-driver.so",))
    monkeypatch.setattr(machine, "Path", lambda path: SimpleNamespace(exists=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would fail
    assert machine.has_gpu() is False
    monkeypatch.setattr(machine, "NVIDIA_DRIVERS", ("libc.so.6",))  # stands for a driver that is there
    with pytest.raises(ImportError):
        machine.has_gpu()


def test_workers_that_wait_for_the_disk_come_on_top_of_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=6 * 2**30))
    assert machine.workers_within_memory(2**20, waiting=2) == 4
    assert machine.workers_within_memory(2**30, waiting=2) == 3  # of the 3 GiB


def test_files_are_read_by_as_many_workers_as_the_largest_of_them_allow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * 2**20))
    for name, kib in (("a", 100), ("b", 200)):
        (tmp_path / f"{name}.nii").write_bytes(bytes(kib * 2**10))
    small, large = tmp_path / "a.nii", tmp_path / "b.nii"
    assert machine.workers_for_files([[small]]) == 8  # 600 KiB each, of 5 MiB
    assert machine.workers_for_files([[small], [small, large]]) == 2  # 1800 KiB each
    assert machine.workers_for_files([]) == 8

"""What this machine has: cores, memory, a GPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnlite.data.memory import free_memory_bytes
from nnlite.data.unpacked import unpacked_bytes
from nnlite.errors import UsageError

NVIDIA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")  # on Linux and on Windows
MEMORY_SHARE = 0.5  # of the free memory that parallel work may plan to use
COPIES_OF_FILE = 6  # of its voxels while it is unpacked, turned, measured in float32 and compared


def cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_within_memory(bytes_per_worker: int, *, waiting: int = 0) -> int:
    """How many workers fit into the memory that is free now; at least 1.

    At most one per core, and ``waiting`` more where that many are always waiting for the disk.
    """
    return max(1, min(cores() + waiting, int(free_memory_bytes() * MEMORY_SHARE / max(bytes_per_worker, 1))))


def workers_for_files(together: Iterable[Sequence[Path]]) -> int:
    """How many workers may read files at a time, each of them those of one entry, so that all fit into free memory."""
    largest = max((sum(map(unpacked_bytes, paths)) for paths in together), default=0)
    return workers_within_memory(COPIES_OF_FILE * largest)


def has_gpu() -> bool:
    """Whether torch sees a CUDA GPU; where there is no driver for one, torch is not even loaded to ask it."""
    if not _has_gpu_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_gpu_driver() -> bool:
    """Whether NVIDIA's or AMD's driver is installed: without it torch sees no GPU."""
    return Path("/dev/kfd").exists() or any(_loads(library) for library in NVIDIA_DRIVERS)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def device_name(device: str) -> str:
    """The device that "auto", "cpu" or "cuda" means on this machine."""
    if device == "auto":
        return "cuda" if has_gpu() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f'there is no device "{device}"; it is one of auto, cpu, cuda')
    if device == "cuda" and not has_gpu():
        raise UsageError("torch sees no CUDA GPU on this machine; use --device cpu, or install a CUDA build of torch")
    return device


def gpu_memory_gib() -> float:
    """Memory of the first CUDA GPU in GiB."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 2**30

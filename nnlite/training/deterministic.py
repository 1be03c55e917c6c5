"""The same bits every time, on a GPU too: operations whose sums depend on timing are replaced or refused.

nnlite's random numbers are fixed by the seed anyway, and operations on a CPU give the same bits for the same number of
cores. On a GPU cuDNN may choose other algorithms from run to run, and some sums are taken in the order in which their
parts arrive (pytorch.org/docs/stable/notes/randomness.html).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CUBLAS_DETERMINISTIC = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # 8 buffers of 4 MiB; what torch asks for (see its notes)


@contextmanager
def deterministic_operations(wanted: bool) -> Iterator[None]:
    """Within the block torch uses only operations that give the same bits each time; one that cannot is an error.

    cuBLAS needs an environment variable for that, which is set unless it is set already, and stays: torch looks for it
    once, when a process first uses cuBLAS. Where that was before the block, torch's error names the variable.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(*CUBLAS_DETERMINISTIC)
    cudnn, before = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    filling: Any = torch.utils.deterministic  # a module that has its setting as a property
    settings = (cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory)
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    filling.fill_uninitialized_memory = False  # nothing here reads memory that it has not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory = settings


def mean_nll(logarithms: Tensor, target: Tensor) -> Tensor:
    """torch's ``nll_loss``; where operations must be deterministic the mean is taken apart from it.

    On a GPU the mean within ``nll_loss`` adds its parts in the order in which they arrive, and torch refuses it.
    """
    if torch.are_deterministic_algorithms_enabled():
        return functional.nll_loss(logarithms, target, reduction="none").mean()
    return functional.nll_loss(logarithms, target)

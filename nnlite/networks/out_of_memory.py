"""What training and prediction do alike when a device has no memory left: tell it from other errors, and tidy up."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU, the CPU or numpy had no memory to give; torch's allocator for CPUs says so in words alone.

    >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")), is_out_of_memory(RuntimeError("wrong shape"))
    (True, False)
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def release(device: torch.device) -> None:
    """Give back what torch keeps for later, so that pieces of another size fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()

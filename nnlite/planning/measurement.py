"""What a training step really cost, measured once and kept with the plan: the numbers only.

``training/probe.py`` measures; planning and the command line compare and show. No torch here.
"""

from __future__ import annotations

import math
from typing import Literal

from nnlite.data.records import record
from nnlite.errors import PlanError


@record
class StepMeasurement:
    """What one training step really cost on one device.

    ``patch_size`` is ordered like the array: (z, y, x), or (y, x) for slices. ``memory_gib`` is a peak: on a GPU that
    of torch's allocator, which leaves out what CUDA itself takes; on a CPU the growth of the resident set since before
    the network was built. ``step_s`` is the time of a step after the first, which warms up.
    """

    device: str  # a name that a person knows: "NVIDIA H200", "AMD EPYC 9R14, 2 threads"
    precision: Literal["fp32", "bf16", "fp16"]
    patch_size: tuple[int, ...]
    batch_size: int
    memory_gib: float
    step_s: float
    torch_version: str

    def __post_init__(self) -> None:
        if not 0 <= self.memory_gib < math.inf:
            raise PlanError(f"measurement on {self.device}: memory_gib must be 0 or more, not {self.memory_gib}")
        if not 0 < self.step_s < math.inf:
            raise PlanError(f"measurement on {self.device}: step_s must be a positive number, not {self.step_s}")

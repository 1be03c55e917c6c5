"""Steps whose loss or gradient is no number: they are left out, written down, and answered where they repeat.

A single absurd image, or an overflow in float16, must not cost a training that takes days. Whether a step counts is
decided on the device, without waiting for it; what was left out is asked for every few steps.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LOOK_EVERY = 25  # steps: waiting for a GPU so rarely costs nothing that can be measured
FALL_BACK_AFTER = 3  # steps left out in float16, scaled as it is, are no accident any more

logger = logging.getLogger(__name__)


class SkippedSteps:
    """Which steps were left out, and of which cases their batches were.

    ``total`` counts those of the whole training in the present precision.
    """

    def __init__(self) -> None:
        self.total = 0
        self._pending: list[tuple[int, tuple[str, ...], Tensor]] = []

    def note(self, step: int, cases: Sequence[str], left_out: Tensor) -> None:
        """Remember a step of the epoch; ``left_out`` is a truth value that may still be on its way."""
        self._pending.append((step, tuple(cases), left_out))

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        return len(self._pending) >= LOOK_EVERY

    def look(self, where: str) -> int:
        """Log the steps that were left out since the last look; returns how many these are."""
        if not self._pending:
            return 0
        flags = torch.stack([left_out for _, _, left_out in self._pending]).tolist()
        found = [(step, cases) for (step, cases, _), flag in zip(self._pending, flags, strict=True) if flag]
        self._pending.clear()
        for step, cases in found:
            logger.warning(
                "%s, step %d: loss or gradient is no number, so the step is left out; its batch was drawn from %s",
                where,
                step,
                ", ".join(dict.fromkeys(cases)) or "unknown cases",
            )
        self.total += len(found)
        return len(found)

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to know, in plain numbers and text."""
        pending = [[step, list(cases), bool(left_out)] for step, cases, left_out in self._pending]
        return {"total": self.total, "pending": pending}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from what ``state`` returned."""
        self.total = state["total"]
        self._pending = [
            (step, tuple(cases), torch.tensor(flag, device=device)) for step, cases, flag in state["pending"]
        ]

"""The exponential moving average of a network's weights, which is validated and kept in the place of the last ones.

Polyak and Juditsky, SIAM Journal on Control and Optimization 30, 838-855, 1992; as a moving average: Tarvainen and
Valpola, NeurIPS 2017. It evens out the steps of a high learning rate, so it gains most where that does not fall to 0.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

YOUNG_STEPS = 9  # an average over few steps forgets faster: of n steps the last counts 9 / (n + 9), at least


class Average:
    """A second network with the averages of the first one's weights; it is always in evaluation mode."""

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Take in the weights after a step; the first step's are taken as they are."""
        decay = min(self.decay, self.steps / (self.steps + YOUNG_STEPS))
        for average, weight in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for same, value in zip(self.network.buffers(), network.buffers(), strict=True):
            same.copy_(value)
        self.steps += 1

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to know."""
        return {"network": self.network.state_dict(), "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self.network.load_state_dict(state["network"])
        self.steps = state["steps"]

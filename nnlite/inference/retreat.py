"""Predict a case although memory is short: with fewer windows at a time, then with slabs in main memory, then on CPU.

Each retreat begins the case anew and costs time, no accuracy; the next case is tried as it should be again. In main
memory lies then all but the networks: windows go to the GPU, and no slab has to fit there any more.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from nnlite.errors import MemoryShortError
from nnlite.inference.predict import Model
from nnlite.networks.out_of_memory import is_out_of_memory, release

R = TypeVar("R")

CPU = torch.device("cpu")

logger = logging.getLogger(__name__)


def with_retreat(models: Sequence[Model], predict: Callable[[Sequence[Model]], R], what: str) -> R:
    """What ``predict`` says with these models; without memory it is asked again with models that take less.

    It must leave nothing behind when it fails but what it then writes anew. ``what`` is how the log calls the work.
    ``MemoryShortError`` where the main memory does not suffice either.
    """
    said = ""
    for how, lighter in _retreats(models):
        if said:
            logger.warning("%s: %s; trying again %s", what, said, how)
        try:
            return predict(lighter)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = str(error).partition("\n")[0] or "not enough memory"
        release(models[0].device)  # here, where the error no longer holds what had been computed
    raise MemoryShortError(f"{what}: {said}, even window by window; close other programs, or use a larger machine")


def _retreats(models: Sequence[Model]) -> Iterator[tuple[str, Sequence[Model]]]:
    """Models that take less and less memory, and what is different about them, in words."""
    yield "", models
    batch = max(model.configuration.batch_size for model in models)
    while batch > 1:
        batch //= 2
        yield f"with {batch} windows at a time", [_with_batch(model, batch) for model in models]
    if models[0].device == CPU:
        return
    alone = [_with_batch(model, 1) for model in models]
    yield "with everything but the networks in main memory", [_blended_on_cpu(model) for model in alone]
    yield "on the CPU", [_on_cpu(model) for model in alone]


def _with_batch(model: Model, most: int) -> Model:
    configuration = replace(model.configuration, batch_size=min(most, model.configuration.batch_size))
    previous = None if model.previous is None else _with_batch(model.previous, most)
    return replace(model, configuration=configuration, previous=previous)


def _blended_on_cpu(model: Model) -> Model:
    networks = tuple(Elsewhere(network, model.device) for network in model.networks)
    previous = None if model.previous is None else _blended_on_cpu(model.previous)
    return replace(model, networks=networks, device=CPU, previous=previous)


def _on_cpu(model: Model) -> Model:
    # copies: another thread may be using the networks where they are
    networks = tuple(Elsewhere(copy.deepcopy(network).to(CPU), CPU) for network in model.networks)
    previous = None if model.previous is None else _on_cpu(model.previous)
    return replace(model, networks=networks, device=CPU, previous=previous)


class Elsewhere(nn.Module):
    """A network that stays on its device, whatever device its caller works on: windows go there, logits come back.

    On a GPU it computes in the precision that its caller asked for; on a CPU in float32, which every CPU knows.
    """

    def __init__(self, network: nn.Module, device: torch.device):
        super().__init__()
        self._network = (network,)  # in a tuple, where ``to`` does not find it
        self._device = device

    def forward(self, windows: Tensor) -> Tensor:
        """Logits of windows (n, channels, *window), on the device of the windows."""
        asked = torch.is_autocast_enabled(windows.device.type) and self._device != CPU
        dtype = torch.get_autocast_dtype(windows.device.type) if asked else None
        with (
            torch.autocast(windows.device.type, enabled=False),
            torch.autocast(self._device.type, dtype=dtype, enabled=asked),
        ):
            return self._network[0](windows.to(self._device)).float().to(windows.device)

"""Retreat when a GPU has no memory left: a batch in parts, or, for what only prepares batches, the CPU.

The gradients of the parts add up to that of the batch: exactly so where each sample has a loss of its own and counts
alike. Where a term is one fraction of sums over the batch (batch Dice), or a mean over voxels of which some samples
have more that count (ignored, not drawn, weighted by borders), each part has one of its own, and counts by its samples.
Memory may be short because the plan was made for another machine, or for a while, because of another process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import repeat
from typing import TypeVar

import torch
from torch import Tensor

from nnlite.errors import MemoryShortError
from nnlite.networks.out_of_memory import is_out_of_memory, release
from nnlite.training.assemble import Batch

T = TypeVar("T")

CPU = torch.device("cpu")

logger = logging.getLogger(__name__)


class Parts:
    """In how many parts batches are run on a device: in one, until that proves too many samples at a time.

    Not ``divisible`` are batches that processes share: they would have to be in the same part at the same time.
    """

    def __init__(self, device: torch.device, *, divisible: bool = True):
        self.device, self.number, self.divisible = device, 1, divisible

    def run(self, batch: Batch, work: Callable[[list[Batch]], T]) -> T:
        """What ``work`` says of the batch; without memory it is asked again with smaller parts.

        ``work`` is then begun anew, so it must leave nothing behind when it fails. ``MemoryShortError`` where single
        samples do not fit either.
        """
        while True:
            try:
                return work(split(batch, self.number))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                said = str(error).partition("\n")[0]
            # only here, where the error no longer holds what had been computed, there is memory to give back
            release(self.device)
            samples = len(batch.images)
            if not self.divisible:
                raise MemoryShortError(
                    f"{self.device.type} has too little memory for this process's {samples} samples of each batch "
                    f"({said}); start more processes, or only one, which runs a batch in parts"
                )
            if self.number >= samples:
                raise MemoryShortError(f"{self.device.type} has too little memory for a single sample ({said})")
            self.number = min(2 * self.number, samples)
            logger.warning(
                "%s has too little memory for a batch of %d at once; going on in %d parts, which is slower",
                self.device.type,
                samples,
                self.number,
            )


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch as smaller ones, as even as can be.

    >>> labels = torch.zeros(5, 8, 8, dtype=torch.int64)
    >>> [len(part.labels) for part in split(Batch(images=torch.zeros(5, 1, 8, 8), labels=labels), 2)]
    [3, 2]
    """
    if parts == 1:
        return [batch]
    drawn, atlases, maps = _chunks(batch.drawn, parts), _chunks(batch.atlases, parts), batch.maps.chunks(parts)
    pieces = zip(batch.images.chunk(parts), batch.labels.chunk(parts), drawn, atlases, maps, strict=False)
    return [replace(batch, images=i, labels=t, drawn=d, atlases=a, maps=m) for i, t, d, a, m in pieces]


def _chunks(one: Tensor | None, parts: int) -> Iterable[Tensor | None]:
    return repeat(None) if one is None else one.chunk(parts)


def on_device_or_cpu(make: Callable[[torch.device], Batch], device: torch.device, what: str) -> Batch:
    """A batch made on the device, or on the CPU where the device has no memory to make it; it lies on the device."""
    try:
        return make(device)
    except (RuntimeError, MemoryError) as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    release(device)
    logger.warning("%s has too little memory to prepare %s; it is prepared on the CPU", device.type, what)
    made = make(CPU)
    drawn, atlases = (None if one is None else one.to(device) for one in (made.drawn, made.atlases))
    maps = made.maps.changed(lambda one: one.to(device))
    images, labels = made.images.to(device), made.labels.to(device)
    return replace(made, images=images, labels=labels, drawn=drawn, atlases=atlases, maps=maps)

"""What a transform draws from: the random numbers of a batch, how often it acts and how much.

Decisions come from a numpy generator, so they are the same on every device. Of a batch that several processes share
each has a ``Share``: all is drawn for the whole batch, and applied to what is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nnlite.training.augmentation.imaging import Imaging
from nnlite.training.share import Share

LARGEST_SEED = 2**62
CHANNEL_PROBABILITY = 0.5  # some transforms befall each channel of a chosen sample with this probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """The samples that a transform was drawn for: ``rows`` (on the device) those of them that are at hand.

    ``here`` tells of each that was drawn whether it is one of these.
    """

    rows: Tensor
    here: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """How a transform acts on a batch (batch, channels, *size): with which ``probability`` on a sample, and how much.

    ``limits`` are those of the one number that a transform draws; what it means, the transform tells. ``noise`` is a
    generator on the device of the images. ``imaging`` tells what the channels show.
    """

    probability: float
    limits: tuple[float, float]
    rng: np.random.Generator
    noise: torch.Generator
    share: Share
    imaging: Imaging = field(default_factory=Imaging)

    def picked(self, images: Tensor) -> Picked | None:
        """The samples that are drawn, or None for none."""
        chosen = np.flatnonzero(self.rng.random(self.share.samples) < self.probability)
        here = self.share.has(chosen)
        rows = on_device(chosen[here] - self.share.first, images.device, torch.int64)
        return Picked(rows=rows, here=here) if len(chosen) else None

    def per_sample(self, picked: Picked, like: Tensor) -> Tensor:
        """One uniform number per picked sample, shaped to broadcast over (samples, channels, *size)."""
        numbers = self.rng.uniform(*self.limits, size=len(picked.here))[picked.here]
        return on_device(numbers, like.device, like.dtype).view(-1, *(1,) * (like.ndim - 1))

    def per_channel(self, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Rows (sample, channel): samples by probability, then each of their channels by a coin; and which are here."""
        samples = self.rng.random(self.share.samples) < self.probability
        channels = self.rng.random((self.share.samples, images.shape[1])) < CHANNEL_PROBABILITY
        pairs = np.argwhere(samples[:, None] & channels)
        return pairs - (self.share.first, 0), self.share.has(pairs[:, 0])

    def own(self) -> Iterator[tuple[int, np.random.Generator]]:
        """The row of each picked sample that is at hand, with random numbers that are the sample's own."""
        for row in np.flatnonzero(self.rng.random(self.share.samples) < self.probability).tolist():
            seed = int(self.rng.integers(LARGEST_SEED))
            if self.share.first <= row < self.share.stop:
                yield row - self.share.first, np.random.default_rng(seed)


Transform = Callable[[Tensor, Chance], Tensor]
"""Images (batch, channels, *size) as they are after a transform, which may write into what it is given."""


def on_device(numbers: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A few numbers on the device, which is not waited for."""
    tensor = torch.from_numpy(numbers).to(dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

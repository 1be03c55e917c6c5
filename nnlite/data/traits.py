"""What a case looks like in a few numbers, taken in passing while a dataset is checked.

``suspicions.py`` compares them between cases. Intensities are looked at on a coarse grid: enough for quantiles, and to
tell whether two images are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnlite.data.image import Image

SAMPLED_LENGTH = 64  # voxels along an axis that are looked at: a quarter of a million place a quantile well enough
QUANTILES = (0.01, 0.5, 0.99)
MOST_VALUES = 200  # a label map with more values is none, and counting each would take long


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTraits:
    """Intensities of one channel: its extremes, and its 1st, 50th and 99th percentile."""

    least: float
    low: float
    median: float
    high: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTraits:
    """One case. ``contents`` are digests of its voxels in canonical order and in that of the file, empty for an image
    of one value; ``orientation`` is where the axes of the file point, empty for a picture; ``voxels`` counts the
    voxels of each label value, ``voxel_ml`` is None for a picture.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    voxel_ml: float | None
    orientation: str
    channels: tuple[ChannelTraits, ...]
    contents: tuple[str, ...]
    label_content: str
    voxels: dict[int, int]


def traits(image: Image, label: np.ndarray | None, values: Sequence[int]) -> CaseTraits:
    """Look at an image and its label map (z, y, x), in which the ``values`` occur."""
    sample = _sample(image.array)
    channels = tuple(_channel(channel) for channel in sample)
    flat = all(channel.least == channel.most for channel in channels)
    counted = label is not None and len(values) <= MOST_VALUES
    return CaseTraits(
        shape=image.geometry.shape,
        spacing_mm=image.geometry.spacing_mm,
        voxel_ml=None if image.planar else image.geometry.voxel_volume_ml,
        orientation="" if image.planar else image.stored.code,
        channels=channels,
        contents=() if flat else (_digest(sample), _digest(_sample(image.stored.in_file_order(image.array)))),
        label_content="" if label is None else _digest(_sample(label[None])),
        voxels={value: int(np.count_nonzero(label == value)) for value in values} if counted else {},
    )


def _sample(array: np.ndarray) -> np.ndarray:
    """Every so many voxels of an array (channels, z, y, x)."""
    z, y, x = (slice(None, None, -(-length // SAMPLED_LENGTH)) for length in array.shape[1:])
    return array[:, z, y, x]


def _channel(voxels: np.ndarray) -> ChannelTraits:
    least, most = float(voxels.min()), float(voxels.max())
    low, median, high = np.quantile(voxels, QUANTILES).tolist()
    return ChannelTraits(least=least, low=low, median=median, high=high, most=most)


def _digest(voxels: np.ndarray) -> str:
    """Equal for the same numbers in the same shape, whatever the type they are stored in."""
    content = hashlib.blake2b(str(voxels.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(voxels, dtype=np.float32).data)
    return content.hexdigest()

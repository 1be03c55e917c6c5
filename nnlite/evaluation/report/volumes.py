"""Make a case small enough to travel inside a page: crop it to its foreground, coarsen it, eight bits, compress.

A page with twelve cases is to stay within 15 MB whatever the scanner, so voxels are merged until a case fits its share;
how much that was is told beside the picture. Base64 of deflate is what every browser reads without a library.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Triple = tuple[float, float, float]

MARGIN = 0.35  # of the foreground's extent, kept on either side: what lies around a structure explains errors
MARGIN_MM = 8.0  # at least, so that a small lesion does not fill the picture
MOST_CHANNELS = 4  # as many as brain MR has; more are left out
CLIPPED = (0.1, 99.9)  # percent of the voxels between which the 256 grey levels lie: metal would take them all
LEVELS = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedChannel:
    """Grey levels 0 to 255 for intensities ``low`` to ``high``; ``data`` is base64 of deflated uint8 (z, y, x).

    The viewer begins with ``black`` to ``white``.
    """

    name: str
    low: float
    high: float
    black: float
    white: float
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedVolume:
    """A case for the viewer. ``shape`` and ``spacing_mm`` are those of what is shown, ordered (z, y, x).

    ``truth`` and ``prediction`` are base64 of deflated little-endian uint16 label indices. ``colour`` says that the
    three channels are red, green and blue. ``note`` tells what is not shown as it is in the file.
    """

    shape: tuple[int, int, int]
    spacing_mm: Triple
    planar: bool
    colour: bool
    channels: tuple[PackedChannel, ...]
    truth: str
    prediction: str
    note: str

    @property
    def characters(self) -> int:
        """What the case adds to the page."""
        return len(self.truth) + len(self.prediction) + sum(len(channel.data) for channel in self.channels)


def pack(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    *,
    spacing_mm: Triple,
    planar: bool,
    channels: Sequence[str],
    most_voxels: int,
    window: tuple[float, float] | None = None,
) -> PackedVolume:
    """Pack an image (channels, z, y, x) with two label index maps (z, y, x); at most about ``most_voxels`` remain.

    Voxels that are merged are averaged in the image; labels take the middle one, so that thin structures may thin out.
    ``window`` is what the viewer begins with in the first channel, as far as there are such intensities.
    """
    box = foreground_box((truth > 0) | (prediction > 0), spacing_mm, planar=planar)
    colour = planar and image.dtype == np.uint8 and len(image) >= 3
    kept = image[: 3 if colour else MOST_CHANNELS]
    view = kept[(slice(None), *box)]
    factors = merge_factors(view.shape[1:], spacing_mm, most_voxels // len(kept))
    parts = [box_means(channel, factors) for channel in view]
    maps = [middle_voxels(labels[box], factors) for labels in (truth, prediction)]
    z, y, x = maps[0].shape
    names = ("red", "green", "blue") if colour else channels
    windows = [window, *[None] * (len(kept) - 1)]
    return PackedVolume(
        shape=(z, y, x),
        spacing_mm=_scaled(spacing_mm, factors),
        planar=planar,
        colour=colour,
        channels=tuple(
            _grey(part, name, parts if colour else [part], first)
            for part, name, first in zip(parts, names, windows, strict=False)
        ),
        truth=encoded(maps[0].astype("<u2")),
        prediction=encoded(maps[1].astype("<u2")),
        note=_note(view.shape[1:], image.shape, factors, shown=len(kept)),
    )


def foreground_box(foreground: np.ndarray, spacing_mm: Triple, *, planar: bool) -> tuple[slice, slice, slice]:
    """The box (z, y, x) of the foreground with a margin; the whole volume where there is none, or it is a picture.

    >>> mask = np.zeros((40, 40, 40), dtype=bool)
    >>> mask[18:22, 18:22, 18:22] = True
    >>> foreground_box(mask, (4.0, 1.0, 1.0), planar=False)
    (slice(16, 24, None), slice(10, 30, None), slice(10, 30, None))
    """
    if planar or not foreground.any():
        return slice(None), slice(None), slice(None)
    sides = []
    for axis, step in enumerate(spacing_mm):
        inside = np.flatnonzero(foreground.any(axis=tuple({0, 1, 2} - {axis})))
        first, last = int(inside[0]), int(inside[-1]) + 1
        margin = math.ceil(max(MARGIN * (last - first), MARGIN_MM / step))
        sides.append(slice(max(first - margin, 0), min(last + margin, foreground.shape[axis])))
    return sides[0], sides[1], sides[2]


def merge_factors(shape: Sequence[int], spacing_mm: Triple, most_voxels: int) -> tuple[int, int, int]:
    """How many voxels become one along each axis, so that at most ``most_voxels`` remain: the finest axes first.

    >>> merge_factors((50, 400, 400), (5.0, 1.0, 1.0), 600_000)
    (1, 4, 4)
    """
    factors = [1, 1, 1]

    def remaining() -> int:
        return math.prod(math.ceil(size / factor) for size, factor in zip(shape, factors, strict=True))

    while remaining() > most_voxels:
        long = [axis for axis in range(3) if shape[axis] > factors[axis]]
        if not long:
            break
        finest = min(spacing_mm[axis] * factors[axis] for axis in long)
        for axis in long:  # axes of one spacing stay so: a slice does not become oblong
            if spacing_mm[axis] * factors[axis] < finest * 1.2:
                factors[axis] += factors[axis]
    return factors[0], factors[1], factors[2]


def box_means(volume: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means of blocks of so many voxels (z, y, x), float32; an incomplete block at the end repeats the last voxels."""
    if all(factor == 1 for factor in factors):
        return volume.astype(np.float32)
    missing = [(0, -size % factor) for size, factor in zip(volume.shape, factors, strict=True)]
    whole = np.pad(volume.astype(np.float32), missing, mode="edge")
    blocks = [part for size, factor in zip(whole.shape, factors, strict=True) for part in (size // factor, factor)]
    return whole.reshape(blocks).mean(axis=(1, 3, 5))


def middle_voxels(labels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """The label in the middle of each block; of as many blocks as ``box_means`` has."""
    picked = [
        np.minimum(np.arange(0, size, factor) + factor // 2, size - 1)
        for size, factor in zip(labels.shape, factors, strict=True)
    ]
    return labels[np.ix_(*picked)]


def encoded(array: np.ndarray) -> str:
    """Bytes of an array, deflated, as base64."""
    return deflated(np.ascontiguousarray(array).tobytes())


def deflated(content: bytes) -> str:
    """Bytes, deflated (zlib), as base64 text."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def _grey(
    part: np.ndarray, name: str, together: Sequence[np.ndarray], window: tuple[float, float] | None
) -> PackedChannel:
    """A channel in 256 grey levels between two percentiles of all that are seen together with it, as colours are."""
    low, high = np.percentile(np.stack(together), CLIPPED).tolist()
    if not high > low:
        high = low + 1.0
    levels = np.rint((np.clip(part, low, high) - low) * (LEVELS / (high - low))).astype(np.uint8)
    black, white = (max(window[0], low), min(window[1], high)) if window else (low, high)
    if not white > black:
        black, white = low, high
    return PackedChannel(name=name, low=low, high=high, black=black, white=white, data=encoded(levels))


def _scaled(spacing_mm: Triple, factors: Sequence[int]) -> Triple:
    z, y, x = (step * factor for step, factor in zip(spacing_mm, factors, strict=True))
    return z, y, x


def _note(view: Sequence[int], image: Sequence[int], factors: Sequence[int], *, shown: int) -> str:
    """What differs from the file, in words; empty if nothing does."""
    notes = []
    if tuple(view) != tuple(image[1:]):
        notes.append(f"cropped to {_by(view)} of {_by(image[1:])} voxels")
    if max(factors) > 1:
        notes.append(f"{_by(factors)} voxels shown as one")
    if shown < image[0]:
        notes.append(f"{shown} of {image[0]} channels shown")
    return "; ".join(notes)


def _by(numbers: Sequence[int]) -> str:
    return " × ".join(map(str, numbers))

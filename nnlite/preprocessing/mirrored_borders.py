"""What lies beyond the border of a case, for networks without padding: its mirror image.

Such a network answers for less than it sees, so what it sees must go beyond the image wherever it is to answer up to
the border. U-Net's overlap tiles extrapolate by mirroring (Ronneberger et al., MICCAI 2015). The voxel at the border is
mirrored as well, so that an axis of a single voxel can be continued, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def mirrored_places(first: int, length: int, size: int) -> np.ndarray:
    """Which voxels of an axis of ``size`` take the places ``first`` to ``first + length - 1``: (length,) indices.

    >>> mirrored_places(-2, 7, 3)
    array([1, 0, 0, 1, 2, 2, 1])
    """
    places = np.arange(first, first + length) % (2 * size)
    return np.where(places < size, places, 2 * size - 1 - places)


def read_mirrored(volume: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """A box of the trailing axes of ``volume``, mirrored where it reaches beyond; a view where it does not.

    >>> read_mirrored(np.arange(1, 5), (-2,), (4,))
    array([2, 1, 1, 2])
    """
    leading = volume.ndim - len(size)
    box, beyond = [slice(None)] * leading, {}
    for axis, (first, length) in enumerate(zip(start, size, strict=True), start=leading):
        places = mirrored_places(first, length, volume.shape[axis])
        nearest, farthest = int(places.min()), int(places.max())
        box.append(slice(nearest, farthest + 1))  # cut first: a stored case is a file, of which little is to be read
        if first < 0 or first + length > volume.shape[axis]:
            beyond[axis] = places - nearest
    region = volume[tuple(box)]
    for axis, places in beyond.items():
        region = np.take(region, places, axis=axis)
    return region


def extend_by_mirroring(image: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """An image (channels, z, y, x) with so many voxels more on either side of each axis."""
    for axis, (front, back) in enumerate(zip(before, after, strict=True), start=1):
        if front or back:
            size = image.shape[axis]
            places = torch.from_numpy(mirrored_places(-front, front + size + back, size)).to(image.device)
            image = image.index_select(axis, places)
    return image

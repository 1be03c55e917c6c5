"""Distance of each voxel to the border of a structure, negative within it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def signed_distance(
    mask: np.ndarray, voxel: Sequence[float] | None = None, unknown: np.ndarray | None = None
) -> np.ndarray:
    """Distances (*size) float32 to the border of a mask (*size) bool, which runs between voxels.

    A structure that is nowhere, or everywhere, has no border here: all distances are 0 then. Nor is there one to voxels
    that are ``unknown`` (*size) bool, of which nobody said whether they belong to it: distances are those to the
    nearest voxel that is known to lie on the other side, and 0 for the unknown ones. ``voxel`` is the size of one, the
    finest axis being 1; by default it is a cube.

    >>> signed_distance(np.array([False, False, True, True, True])).tolist()
    [1.5, 0.5, -0.5, -1.5, -2.5]
    """
    outside = ~mask if unknown is None else ~(mask | unknown)
    if not mask.any() or not outside.any():
        return np.zeros(mask.shape, dtype=np.float32)
    without = ndimage.distance_transform_edt(~mask, sampling=voxel)
    within = ndimage.distance_transform_edt(~outside, sampling=voxel)
    distance = (without - within + np.where(mask, 0.5, -0.5)).astype(np.float32)
    return distance if unknown is None else np.where(unknown, np.float32(0), distance)

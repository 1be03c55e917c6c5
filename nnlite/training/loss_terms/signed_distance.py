"""Distance of each voxel to the border of a structure, negative within it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def signed_distance(mask: np.ndarray, voxel: Sequence[float] | None = None) -> np.ndarray:
    """Distances (*size) float32 to the border of a mask (*size) bool, which runs between voxels.

    A structure that is nowhere, or everywhere, has no border here: all distances are 0 then. ``voxel`` is the size of
    one, the finest axis being 1; by default it is a cube.

    >>> signed_distance(np.array([False, False, True, True, True])).tolist()
    [1.5, 0.5, -0.5, -1.5, -2.5]
    """
    if mask.all() or not mask.any():
        return np.zeros(mask.shape, dtype=np.float32)
    without = ndimage.distance_transform_edt(~mask, sampling=voxel)
    within = ndimage.distance_transform_edt(mask, sampling=voxel)
    return (without - within + np.where(mask, 0.5, -0.5)).astype(np.float32)

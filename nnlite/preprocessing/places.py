"""Where in its whole image each voxel of a preprocessed case lies: what an atlas is looked up by.

Places are channels like those of the image. They turn, flip and are cut out with it, and because they change linearly,
interpolating them loses nothing. Beyond the border they go on, or turn back where the image is mirrored there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnlite.preprocessing.mirrored_borders import mirrored_places
from nnlite.preprocessing.preprocess import Restoration

PLACE_CHANNELS = 3  # along each axis of the plan, whatever a patch has


def places(
    restoration: Restoration, start: Sequence[int], size: Sequence[int], *, mirrored: bool = False
) -> np.ndarray:
    """Places (3, *size) float32 of a box of the case: along each axis 1 at the image's beginning and 2 at its end.

    0 is kept for nowhere: what is padded with 0 lies outside. The box may reach beyond the case, where places go on as
    they do inside, or are ``mirrored``: those of the voxels that ``read_mirrored`` puts there.
    """
    made = np.empty((PLACE_CHANNELS, *size), dtype=np.float32)
    for axis, channel in enumerate(made):
        if mirrored:
            length = restoration.resampled_shape[axis]
            inside = mirrored_places(start[axis], size[axis], length)
            along = axis_places(restoration, axis, 0, length)[inside]
        else:
            along = axis_places(restoration, axis, start[axis], size[axis])
        channel[...] = (along + 1).reshape(-1, *(1,) * (2 - axis))
    return made


def axis_places(restoration: Restoration, axis: int, start: int, size: int) -> np.ndarray:
    """Place (size,) of voxels along an axis of the plan, from 0 at the beginning of the whole image to 1 at its end."""
    original = restoration.transpose[axis]
    first, last = restoration.box[original]
    voxels = (np.arange(start, start + size) + 0.5) / restoration.resampled_shape[axis]
    return (first + voxels * (last - first)) / restoration.shape[original]

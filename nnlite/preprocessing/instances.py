"""From a mask to single objects: seeds, and a watershed that gives each voxel of the mask to one of them.

With a border class the seeds are what is left of the mask without the border, as the U-Net of the Data Science Bowl
2018's organisers does it (Caicedo et al., Nature Methods 16, 1247-1253, 2019). Without one they are the peaks of the
distance to the background: an object is split where it is narrow, which is the baseline that needs no training of its
own. Watershed: scikit-image, on the distance to the nearest seed or to the background. Distances are in pixels.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from nnlite.data.instances import components
from nnlite.data.labels import Labels

SMALLEST_SEED_SHARE = 0.02  # of the median seed, in voxels: specks of it are no object of their own
NARROW = 0.5  # a neck splits an object where it is less than this as wide as what lies on both sides
SMOOTHED_PX = 1.0  # steps of a contour are no necks
HALF_PIXEL_PX = 0.5  # from the outermost voxels of an object to its outline


def find_instances(indices: np.ndarray, mask: np.ndarray, labels: Labels) -> np.ndarray | None:
    """Instances of a predicted ``mask`` (z, y, x) of label indices, numbered from 1; None where labels have none.

    ``indices`` are those that the networks decided for, with the border of instances where it was learned; ``mask`` is
    what postprocessing made of them. With a border, what it added is shared out like the border itself; without one,
    the mask is all there is to go by: a gap that was filled parts nothing any more, and a hole is no neck.
    """
    if labels.instances is None:
        return None
    if labels.border_index is None:
        return split_by_distance(mask == 1)
    # what was background to the networks is no border, but as seeds it would join what the border parted
    return split_by_border(mask == 1, indices != 1)


def split_by_border(mask: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Instances of a mask (any number of axes, bool), given which of its voxels are border; numbered from 1, int32.

    The connected parts of the mask without border are the seeds, but for specks beside larger seeds of the same part of
    the mask. A part of the mask without any seed is an instance by itself.

    >>> split_by_border(np.array([[[1, 1, 1, 1, 1, 0, 1]]], bool), np.array([[[0, 0, 1, 0, 0, 0, 1]]], bool)).tolist()
    [[[1, 1, 1, 2, 2, 0, 3]]]
    """
    parts, seeds = components(mask), components(mask & ~border)
    sizes = np.bincount(seeds.ravel())
    sizes[0] = 0
    if len(sizes) > 1:
        largest = np.zeros(parts.max() + 1, dtype=np.int64)  # seed of each part of the mask
        part_of = np.zeros(len(sizes), dtype=np.int64)
        part_of[seeds.ravel()] = parts.ravel()
        np.maximum.at(largest, part_of, sizes)
        speck = (sizes < SMALLEST_SEED_SHARE * np.median(sizes[1:])) & (sizes < largest[part_of])
        seeds[speck[seeds]] = 0
    return _grown(mask, parts, seeds, ndimage.distance_transform_edt(seeds == 0))


def split_by_distance(mask: np.ndarray) -> np.ndarray:
    """Instances of a mask (z, y, x) bool alone: parts of it are split at their necks; numbered from 1, int32.

    >>> two = np.array([[[1, 1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1]]], bool).repeat(2, axis=2)
    >>> split_by_distance(two.repeat(2, axis=1))[0, 2].tolist()
    [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    """
    if not mask.any():
        return np.zeros(mask.shape, dtype=np.int32)
    # a picture has no distance across its only slice, along whichever axis that lies
    inside = mask.squeeze(mask.shape.index(1)) if 1 in mask.shape else mask
    padded = np.pad(inside, 1)  # beyond the image's edge is background
    distance = ndimage.distance_transform_edt(padded)[(slice(1, -1),) * inside.ndim]
    smooth = ndimage.gaussian_filter(distance, SMOOTHED_PX)
    widths = np.log(smooth * inside + HALF_PIXEL_PX)  # so that a height of peaks is a ratio of widths
    peaks = h_maxima(widths, -np.log(NARROW)).reshape(mask.shape)
    seeds, _ = ndimage.label(peaks * mask, np.ones((3, 3, 3)))
    return _grown(mask, components(mask), seeds.astype(np.int32), -distance.reshape(mask.shape))


def _grown(mask: np.ndarray, parts: np.ndarray, seeds: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Each part of the mask flooded from its seeds, from low to high; a part without seeds is an instance."""
    seedless = np.ones(parts.max() + 1, dtype=bool)
    seedless[parts[seeds > 0]] = False
    seedless[0] = False
    alone = seedless[parts]
    seeds = np.where(alone, parts + seeds.max(), seeds)
    grown = watershed(height, seeds, mask=mask)
    numbers, places = np.unique(grown, return_inverse=True)
    return (places.reshape(mask.shape) + (numbers[0] != 0)).astype(np.int32)

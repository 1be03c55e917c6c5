"""The border that a network learns as a part of its label, so that objects which nearly touch come apart.

Made from the instances of a label map on its own grid, before that is resampled: a gap of one pixel may be gone
afterwards.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nnlite.data.labels import Labels


def with_border(values: np.ndarray, labels: Labels) -> np.ndarray:
    """Label indices of a map of file values (z, y, x), with those voxels of instances that are border.

    Where no border is learned, these are ``labels.to_indices`` alone.
    """
    indices = labels.to_indices(values)
    if labels.border_index is None:
        return indices
    assert labels.instances is not None, "a border is that of instances"
    found, width = labels.to_instances(values), labels.instances.border_px
    ignored = None if labels.ignore_index is None else indices == labels.ignore_index
    indices[rim(found, width, ignored) if labels.instances.rim else border(found, width)] = labels.border_index
    return indices


def border(instances: np.ndarray, width: int) -> np.ndarray:
    """Voxels of instances that are within ``width`` voxels of another one, centre to centre; (z, y, x) bool.

    ``instances`` holds their numbers, 0 is background, which is never border.

    >>> border(np.array([[[1, 1, 1, 0, 2, 2, 0, 0]]]), width=2).astype(int).tolist()
    [[[0, 0, 1, 0, 1, 0, 0, 0]]]
    """
    lowest, highest = _extremes(np.where(instances == 0, np.iinfo(instances.dtype).max, instances), instances, width)
    return (instances != 0) & (lowest != highest)


def rim(instances: np.ndarray, width: int, ignored: np.ndarray | None = None) -> np.ndarray:
    """Voxels of instances that are within ``width`` voxels of anything else.

    Where the image, or an ``ignored`` area (z, y, x) of it, cuts an instance off, that has no rim. Voxels count alike
    along all axes: of an instance in a few thick slices, much is rim.

    >>> rim(np.array([[[1, 1, 1, 1, 0, 2, 2, 2]]]), width=1).astype(int).tolist()
    [[[0, 0, 0, 1, 0, 1, 0, 0]]]
    """
    for_lowest = instances if ignored is None else np.where(ignored, np.iinfo(instances.dtype).max, instances)
    lowest, highest = _extremes(for_lowest, instances, width)
    return (instances != 0) & (lowest != highest)


def _extremes(for_lowest: np.ndarray, for_highest: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest number around each voxel."""
    near = ball(width, flat=for_lowest.shape[0] == 1)  # others end in the single slice again: they cost time
    lowest = ndimage.minimum_filter(for_lowest, footprint=near, mode="nearest")
    return lowest, ndimage.maximum_filter(for_highest, footprint=near, mode="nearest")


def ball(radius: int, *, flat: bool) -> np.ndarray:
    """Offsets of up to so many voxels around one, (z, y, x) bool; in the plane alone if ``flat``.

    >>> ball(1, flat=True).astype(int).tolist()
    [[[0, 1, 0], [1, 1, 1], [0, 1, 0]]]
    """
    depth = 0 if flat else radius
    z, y, x = np.ogrid[-depth : depth + 1, -radius : radius + 1, -radius : radius + 1]
    return np.asarray(z**2 + y**2 + x**2 <= radius**2)

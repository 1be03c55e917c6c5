"""Easy cases first: an order of the training cases, and how many of them take part in the beginning.

Bengio et al., ICML 2009. A case is the harder the smaller its smallest structure and the noisier its image. Batches
are drawn from the easiest quarter at first, and from more and more until, at half of the training, from all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nnlite.preprocessing.preprocess import Restoration
from nnlite.preprocessing.resample import axis_operator, separate_axis
from nnlite.preprocessing.store import StoredCase

FIRST_SHARE = 0.25  # of the cases, with which a training begins
ALL_FROM = 0.5  # of the training: from here on every case takes part
SLICES = 16  # of an image that its noise is estimated from
MAD_OF_NORMAL = 0.6745  # median of the absolute values of a normal distribution, in standard deviations
SECOND_DIFFERENCE = math.sqrt(6)  # standard deviation of x - 2 y + z where x, y and z have 1
IMAGE_ORDER = 3  # of the splines that preprocessing resamples images with


def easiest_first(cases: Mapping[str, StoredCase], members: Sequence[Sequence[int]], channels: int) -> tuple[str, ...]:
    """The ids of the cases by how hard they are; ``members`` are the label indices of each structure.

    Cases are ranked by the voxels of their smallest structure and by their noise, and ordered by the sum of both ranks.
    Those without any structure come last, the quiet ones first: there is nothing in them to begin with. The noise is
    that of the first ``channels``, those of the scan, on its own grid: what is made of them, a mask of bone or a narrow
    window, has the more edges the more there is to see.
    """
    ids = sorted(cases)
    sizes, noises = [], []
    for case_id in ids:
        case = cases[case_id].mapped()
        sizes.append(0 if case.label is None else smallest_structure(case.label, members))
        noises.append(noise(case.image[:channels]) / noise_left(cases[case_id].restoration))
    empty = np.array(sizes) == 0
    hardness = _ranks(-np.array(sizes)) + _ranks(np.array(noises))
    return tuple(ids[place] for place in np.lexsort((hardness, empty)))


def pool_size(cases: int, share_done: float) -> int:
    """How many of the easiest cases batches are drawn from when this share of the training is done.

    >>> [pool_size(40, done) for done in (0, 0.25, 0.5, 1)]
    [10, 25, 40, 40]
    """
    grown = min(1.0, share_done / ALL_FROM)
    return max(1, math.ceil(cases * (FIRST_SHARE + (1 - FIRST_SHARE) * grown)))


def smallest_structure(label: np.ndarray, members: Sequence[Sequence[int]]) -> int:
    """Voxels of the smallest structure that a label map of indices has; 0 where it has none."""
    indices = 1 + max(map(max, members))
    counts = np.zeros(indices, dtype=np.int64)
    for plane in label:  # bincount makes 8 bytes of each voxel
        counts += np.bincount(plane.ravel(), minlength=indices)[:indices]
    sizes = [int(counts[list(indices)].sum()) for indices in members]
    return min((size for size in sizes if size), default=0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """How many values are lower than each."""
    return np.searchsorted(np.sort(values), values)


def noise(image: np.ndarray) -> float:
    """Standard deviation of the noise of an image (channels, z, y, x), the mean over channels; 0 of constant ones.

    From the median of the second differences along the last axis, which edges hardly change. Differences of exactly 0,
    as in an empty background, do not count.
    """
    depth = image.shape[1]
    slices = np.unique(np.linspace(0, depth - 1, min(depth, SLICES)).round().astype(int))
    found = []
    for channel in image:
        rows = np.asarray(channel[slices], dtype=np.float32)
        differences = np.abs(rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:])
        changing = differences[differences > 0]
        found.append(float(np.median(changing)) if changing.size else 0.0)
    return float(np.mean(found)) / (MAD_OF_NORMAL * SECOND_DIFFERENCE)


def noise_left(restoration: Restoration) -> float:
    """Share of white noise that ``noise`` finds after the resampling of a case; 1 where there was none.

    A finer grid along the last axis makes neighbours alike, and splines along the others average.
    """
    share = 1.0
    separate = separate_axis(restoration.spacing_mm, restoration.resampled_spacing_mm)
    for axis, (old, new) in enumerate(zip(restoration.cropped_shape, restoration.resampled_shape, strict=True)):
        if old == new:
            continue
        weights = axis_operator(old, new, 0 if axis == separate else IMAGE_ORDER).numpy()
        if axis == 2:
            weights = np.diff(weights, 2, axis=0) / SECOND_DIFFERENCE
        variances = np.square(weights).sum(axis=1)
        changing = variances[variances > 0]  # as in ``noise``
        share *= math.sqrt(changing.mean()) if changing.size else 1.0
    return share

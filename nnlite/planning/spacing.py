"""Choose the voxel spacing to resample to, the order of the axes, and how large the median case then is.

Numbers in, numbers out. The rules are those of nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021). Tuples are
ordered like the array: (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nnlite.planning.fingerprint import Fingerprint

ANISOTROPY_RATIO = 3  # an axis whose spacing exceeds the others' this many times is one of thick slices
FEW_SLICES_RATIO = 3  # ... if it also has this many times fewer voxels than the others
THICK_SLICE_PERCENTILE = 10  # of thick slices the thinner ones set the spacing: the median would throw detail away
ABOVE_IN_PLANE_MM = 1e-5  # keeps thick slices the coarsest axis, so that they stay first in the order of the axes
COARSENING = 1.03  # one step on the way to the low resolution
COARSEST_RATIO = 2  # axes this many times finer than the coarsest are coarsened first, alone


def target_spacing(fingerprint: Fingerprint) -> tuple[tuple[float, float, float], str]:
    """Spacing of full resolution in mm, and why: the median, but less for thick slices."""
    spacings = np.asarray(fingerprint.spacings_mm)
    target = np.percentile(spacings, 50, axis=0)
    median_shape = np.percentile(np.asarray(fingerprint.shapes_after_crop), 50, axis=0)
    reason = f"median of {len(spacings)} cases"
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    in_plane = float(target[others].max())
    thick = target[worst] > ANISOTROPY_RATIO * in_plane
    if thick and median_shape[worst] * FEW_SLICES_RATIO < median_shape[others].min():
        median = target[worst]
        finer = float(np.percentile(spacings[:, worst], THICK_SLICE_PERCENTILE))
        target[worst] = max(in_plane, finer) + ABOVE_IN_PLANE_MM if finer < in_plane else finer
        reason += (
            f", but along axis {'zyx'[worst]} the {THICK_SLICE_PERCENTILE}th percentile: its slices are thick "
            f"(median {median:.3g} mm, more than {ANISOTROPY_RATIO} x the {in_plane:.3g} mm of the others) and few"
        )
    return (float(target[0]), float(target[1]), float(target[2])), reason


def flat_axes(fingerprint: Fingerprint) -> tuple[int, ...]:
    """Axes along which the median image is a single voxel: the images are slices, stored as volumes."""
    sizes = np.median(np.asarray(fingerprint.shapes_after_crop), axis=0)
    return tuple(axis for axis in range(3) if sizes[axis] == 1)


def coarsest_axis_first(spacing_mm: Sequence[float], flat: Sequence[int] = ()) -> tuple[int, int, int]:
    """The order of the axes: the largest spacing first, so that slices of a 2D network are the finest planes.

    Axes along which images are ``flat`` come before all others: their slices are the images.

    >>> coarsest_axis_first((1.0, 1.0, 3.0)), coarsest_axis_first((1.0, 1.0, 3.0), flat=(1,))
    ((2, 0, 1), (1, 0, 2))
    """
    first = max(range(3), key=lambda axis: (axis in flat, spacing_mm[axis]))
    second, third = (axis for axis in range(3) if axis != first)
    return first, second, third


def median_resampled_shape(
    fingerprint: Fingerprint, target_mm: Sequence[float], flat: Sequence[int] = ()
) -> tuple[float, float, float]:
    """Per axis, the median over the cases of their number of voxels once resampled to ``target_mm``.

    Along axes that are ``flat`` it is one: a thick slice does not become several.
    """
    shapes = np.round(np.asarray(fingerprint.spacings_mm) / np.asarray(target_mm) * fingerprint.shapes_after_crop)
    shapes[:, list(flat)] = 1
    z, y, x = np.median(np.maximum(shapes, 1), axis=0).tolist()
    return z, y, x


def coarser_spacings(spacing_mm: Sequence[float]) -> Iterator[tuple[float, ...]]:
    """Ever coarser spacings, the finest axes first until all are within a factor of two.

    >>> from itertools import islice
    >>> [tuple(round(s, 3) for s in spacing) for spacing in islice(coarser_spacings((5.0, 2.45, 2.45)), 2)]
    [(5.0, 2.524, 2.524), (5.15, 2.599, 2.599)]
    """
    spacing = tuple(spacing_mm)
    while True:
        coarsest = max(spacing)
        fine = [coarsest / step > COARSEST_RATIO for step in spacing]
        grows = fine if any(fine) else [True] * len(spacing)
        spacing = tuple(step * COARSENING if grow else step for step, grow in zip(spacing, grows, strict=True))
        yield spacing


def millimetres(spacing_mm: Sequence[float]) -> str:
    """A spacing in words.

    >>> millimetres((5.0, 0.78125, 0.78125))
    '5 x 0.781 x 0.781 mm'
    """
    return " x ".join(f"{step:.3g}" for step in spacing_mm) + " mm"


def voxels(size: Sequence[float]) -> str:
    """A size in words.

    >>> voxels((40, 56.0, 40.5))
    '40 x 56 x 40.5'
    """
    return " x ".join(f"{length:g}" for length in size)

"""How much each voxel of a target counts, so that cells which nearly touch are told apart.

The weight map of U-Net (Ronneberger et al., MICCAI 2015): ``w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))`` with the
distances d1 and d2 to the borders of the two nearest cells, and w_c to balance the frequencies of the labels. Arrays
in, arrays out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

BORDER_WEIGHT = 10.0  # w0 of the paper
BORDER_SIGMA = 5.0  # sigma of the paper, in voxels of the finest axis
REACH = 20  # voxels: where d1 + d2 is larger, the border counts 10 exp(-8) = 0.003 and less
MOST_OF_A_LABEL = 10.0  # a label of few voxels counts no more than a border


def border_weights(
    label: np.ndarray,
    *,
    ignore: int | None = None,
    voxel: Sequence[float] | None = None,
    instances: np.ndarray | None = None,
) -> np.ndarray:
    """Weights (*size) float32 of a label map of indices (*size), 0 being the background.

    Cells are what ``instances`` (*size) numbers from 1 on, or else the connected components of each label. Voxels of
    the index ``ignore`` are neither cell nor background, and the edge to them is no border; a cell that they cut
    is one. ``voxel`` is the size of one, the finest axis being 1; by default it is a cube.

    >>> weights = border_weights(np.array([1, 1, 0, 2, 2]))
    >>> [f"{weight:.2f}" for weight in weights]  # 5/6 or 5/3 for the frequency, and d1 + d2 = 2 + 3, 1 + 2, 1 + 1, ..
    ['6.90', '9.19', '10.90', '9.19', '6.90']
    """
    known = np.ones(label.shape, dtype=bool) if ignore is None else label != ignore
    weights = _balance(label, known)
    cells = _components(np.where(known, label, 0)) if instances is None else instances
    if known.any() and not known.all():
        cells = _joined(np.where(known, cells, 0), label, known, voxel)
    nearest, second = _two_nearest(cells, ~known, voxel or (1.0,) * label.ndim)
    weights += BORDER_WEIGHT * np.exp(-((nearest + second) ** 2) / (2 * BORDER_SIGMA**2))
    return weights.astype(np.float32)


def _balance(label: np.ndarray, known: np.ndarray) -> np.ndarray:
    """For each voxel how much its label counts, so that all labels here count alike and the mean is 1."""
    counts = np.bincount(label[known].ravel())
    present = np.count_nonzero(counts)
    if present == 0:
        return np.zeros(label.shape)
    table = np.minimum(counts.sum() / (present * np.maximum(counts, 1)), MOST_OF_A_LABEL)
    return np.where(known, table[np.where(known, label, 0)], 0.0)


def _components(label: np.ndarray) -> np.ndarray:
    """Connected components (face to face) of each foreground label, numbered from 1 on."""
    cells, count = np.zeros(label.shape, dtype=np.int32), 0
    for index in np.flatnonzero(np.bincount(label.ravel())):
        if index == 0:
            continue
        numbers, found = ndimage.label(label == index)
        cells[numbers > 0] = numbers[numbers > 0] + count
        count += found
    return cells


def _joined(cells: np.ndarray, label: np.ndarray, known: np.ndarray, voxel: Sequence[float] | None) -> np.ndarray:
    """The same cells, with one number for those that are parts of one, cut by voxels that are not ``known``.

    Each of these is taken for the nearest known one. Where cells of one label meet then, they are joined, the longest
    contacts first. But two cells of one connected piece of what is known (a slice, say) that do not meet themselves
    were seen to be apart: no third one, in the next slice, joins them.
    """
    places = ndimage.distance_transform_edt(~known, sampling=voxel, return_distances=False, return_indices=True)
    filled, kinds = cells[tuple(places)], label[tuple(places)]
    contacts: Counter[tuple[int, int]] = Counter()
    touching: set[tuple[int, int]] = set()
    for one, other in _neighbours(cells.ndim):
        differ = (filled[one] != filled[other]) & (filled[one] > 0) & (filled[other] > 0)
        seen = known[one] & known[other]
        contacts.update(_pairs(filled[one], filled[other], differ & ~seen & (kinds[one] == kinds[other])))
        touching.update(_pairs(filled[one], filled[other], differ & seen))
    met = [pair for pair, _ in contacts.most_common() if pair not in touching]
    piece = np.zeros(cells.max() + 1, dtype=np.int64)
    piece[cells[known]] = ndimage.label(known)[0][known]
    return _groups(met, piece)[cells]


def _neighbours(axes: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """For each axis the slices of an array that lay each voxel upon the next one."""
    for axis in range(axes):
        before = (slice(None),) * axis
        yield (*before, slice(None, -1)), (*before, slice(1, None))


def _pairs(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> Iterator[tuple[int, int]]:
    """The two numbers at each of these voxels, the lower first."""
    lower, higher = np.sort(np.stack([one[where], other[where]]), axis=0).tolist()
    return zip(lower, higher, strict=True)


def _groups(met: Sequence[tuple[int, int]], piece: np.ndarray) -> np.ndarray:
    """For each number of a cell that of its group: joined pair by pair, unless two of them were seen to be apart."""
    table, pairs = np.arange(len(piece)), set(met)
    members = {number: {number} for pair in met for number in pair}
    for first, second in met:
        one, other = members[first], members[second]
        apart = any(piece[a] == piece[b] and (min(a, b), max(a, b)) not in pairs for a in one for b in other)
        if one is other or apart:
            continue
        one |= other
        members.update(dict.fromkeys(other, one))
        table[list(one)] = min(one)
    return table


def _two_nearest(cells: np.ndarray, unknown: np.ndarray, voxel: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the border of the nearest and of the second nearest cell; infinite beyond ``REACH``.

    The border of a cell lies, seen from without, at its own outermost voxels, and from within at the first that are
    known not to be its.
    """
    nearest, second = np.full(cells.shape, np.inf), np.full(cells.shape, np.inf)
    margins = [int(np.ceil(REACH / size)) for size in voxel]
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        if box is None:
            continue
        around = tuple(slice(max(0, b.start - m), b.stop + m) for b, m in zip(box, margins, strict=True))
        cell = cells[around] == number
        inside = cell | unknown[around]
        if inside.all():  # one cell fills all there is: it has no border here
            continue
        distance = ndimage.distance_transform_edt(~cell, sampling=voxel)
        distance += ndimage.distance_transform_edt(inside, sampling=voxel)
        here = nearest[around]
        second[around] = np.minimum(second[around], np.maximum(here, distance))
        nearest[around] = np.minimum(here, distance)
    return nearest, second

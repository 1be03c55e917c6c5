"""How well a predicted mask overlaps the truth: label arrays in, numbers out.

Everything follows from the joint histogram of the two masks, which one pass over the voxels gives for all labels at
once. The counts may be single numbers or arrays with one entry per label. What a ratio with nothing below the line
means is decided here once: NaN, so that absent structures drop out of means instead of counting as success or failure.
Definitions: Taha and Hanbury, BMC Medical Imaging 15:29, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

VOXELS_AT_ONCE = 1 << 22  # the histogram needs eight bytes per voxel: 32 MiB instead of gigabytes for a whole-body scan


def joint_histogram(truth: np.ndarray, prediction: np.ndarray, count: int) -> NDArray[np.int64]:
    """Voxels (count, count) int64 by label index in the truth (row) and in the prediction (column).

    >>> joint_histogram(np.array([0, 1, 1]), np.array([0, 0, 1]), count=2)
    array([[1, 0],
           [1, 1]])
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth of shape {truth.shape} but prediction of shape {prediction.shape}")
    flat_truth, flat_prediction = truth.reshape(-1), prediction.reshape(-1)
    small = np.min_scalar_type(count * count)  # one byte for up to 15 labels: less to read and write than eight
    histogram = np.zeros(count * count, dtype=np.int64)
    for first in range(0, truth.size, VOXELS_AT_ONCE):
        rows = flat_truth[first : first + VOXELS_AT_ONCE]
        columns = flat_prediction[first : first + VOXELS_AT_ONCE]
        lowest, highest = min(rows.min(), columns.min()), max(rows.max(), columns.max())
        if lowest < 0 or highest >= count:
            raise ValueError(f"label indices from {lowest} to {highest} where 0 to {count - 1} are known")
        pairs = rows.astype(small) * small.type(count) + columns.astype(small)
        histogram += np.bincount(pairs, minlength=count * count)
    return histogram.reshape(count, count)


def overlap(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives of each label, from a joint histogram.

    >>> tp, fp, fn = overlap(np.array([[1, 0], [1, 1]]))
    >>> tp.tolist(), fp.tolist(), fn.tolist()
    ([1, 1], [1, 0], [0, 1])
    """
    hits = np.diagonal(histogram)
    return hits, histogram.sum(axis=0) - hits, histogram.sum(axis=1) - hits


def overlap_of(
    histogram: np.ndarray, members: Sequence[Sequence[int]], *, ignore: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives of structures that consist of several labels each.

    ``members`` holds the label indices of each structure; voxels whose truth is ``ignore`` count nowhere.

    >>> tp, fp, fn = overlap_of(np.array([[5, 1, 0], [0, 2, 3], [0, 4, 6]]), [(1, 2), (2,)])
    >>> tp.tolist(), fp.tolist(), fn.tolist()
    ([15, 6], [1, 3], [0, 4])
    """
    known = histogram.copy()
    if ignore is not None:
        known[ignore] = 0
    hits = np.array([known[np.ix_(indices, indices)].sum() for indices in members], dtype=np.int64)
    predicted = np.array([known[:, list(indices)].sum() for indices in members], dtype=np.int64)
    true = np.array([known[list(indices)].sum() for indices in members], dtype=np.int64)
    return hits, predicted - hits, true - hits


def dice(true_positives: ArrayLike, false_positives: ArrayLike, false_negatives: ArrayLike) -> np.ndarray:
    """2 TP / (2 TP + FP + FN). Two empty masks: NaN; one empty mask: 0.

    >>> dice(1, 1, 0).item()
    0.6666666666666666
    """
    tp, fp, fn = np.asarray(true_positives), np.asarray(false_positives), np.asarray(false_negatives)
    return ratio(2 * tp, 2 * tp + fp + fn)


def iou(true_positives: ArrayLike, false_positives: ArrayLike, false_negatives: ArrayLike) -> np.ndarray:
    """Intersection over union, TP / (TP + FP + FN). Two empty masks: NaN; one empty mask: 0.

    >>> iou(1, 1, 0).item()
    0.5
    """
    tp, fp, fn = np.asarray(true_positives), np.asarray(false_positives), np.asarray(false_negatives)
    return ratio(tp, tp + fp + fn)


def sensitivity(true_positives: ArrayLike, false_negatives: ArrayLike) -> np.ndarray:
    """TP / (TP + FN), also called recall: the share of the truth that was found. Empty truth: NaN."""
    tp, fn = np.asarray(true_positives), np.asarray(false_negatives)
    return ratio(tp, tp + fn)


def specificity(true_negatives: ArrayLike, false_positives: ArrayLike) -> np.ndarray:
    """TN / (TN + FP): the share of what is not in the truth that was left alone; no such voxel: NaN.

    Grows with the empty space around a structure, so compare it only between masks of the same images.
    """
    tn, fp = np.asarray(true_negatives), np.asarray(false_positives)
    return ratio(tn, tn + fp)


def precision(true_positives: ArrayLike, false_positives: ArrayLike) -> np.ndarray:
    """TP / (TP + FP): the share of the prediction that is right. Empty prediction: NaN."""
    tp, fp = np.asarray(true_positives), np.asarray(false_positives)
    return ratio(tp, tp + fp)


def volume_ml(voxels: ArrayLike, spacing_mm: Sequence[float]) -> np.ndarray:
    """Volume in millilitres of so many voxels.

    >>> volume_ml(500, spacing_mm=(2.0, 1.0, 1.0)).item()
    1.0
    """
    return np.asarray(voxels) * (np.prod(spacing_mm) / 1000)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0)

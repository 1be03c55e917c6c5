"""How well single objects were found and outlined: two maps of instance numbers in, counts and indices out.

All follows from the voxels that each pair of instances shares, a joint histogram of which only the pairs that meet are
kept. A true and a predicted instance are a match at a threshold if their intersection over union is above it; from 0.5
up each has one partner at most, so that nothing has to be assigned. Average precision is TP / (TP + FP + FN), as in the
Data Science Bowl 2018 (Caicedo et al., Nature Methods 16, 1247-1253, 2019) and StarDist (Schmidt et al., MICCAI 2018):
not the area under a curve that detection means by the word. Aggregated Jaccard index: Kumar et al., IEEE Transactions
on Medical Imaging 36, 1550-1560, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnlite.evaluation.metrics import ratio

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)  # of the Data Science Bowl 2018
LEAST_THRESHOLD = 0.5  # below, an instance could match several


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Counts at one threshold: matched pairs, predicted instances without a match, and true ones without."""

    found: int
    false_alarms: int
    missed: int

    @property
    def precision(self) -> float:
        """Average precision, TP / (TP + FP + FN); NaN where there is no instance at all."""
        return float(ratio(np.asarray(self.found), np.asarray(self.found + self.false_alarms + self.missed)))

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN where there is no instance at all."""
        return float(ratio(np.asarray(2 * self.found), np.asarray(2 * self.found + self.false_alarms + self.missed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceOverlaps:
    """Instances of one image and the pairs of a true and a predicted one that meet.

    ``truth_voxels`` and ``prediction_voxels`` are the sizes of the instances in the order of their numbers; ``truth``
    and ``prediction`` name those of each pair by their place there, and ``shared`` counts the voxels of both.
    """

    truth_voxels: NDArray[np.int64]
    prediction_voxels: NDArray[np.int64]
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]
    shared: NDArray[np.int64]

    @classmethod
    def of(cls, truth: np.ndarray, prediction: np.ndarray) -> InstanceOverlaps:
        """The overlaps of two maps of instance numbers of one shape; 0 is background, numbers may have gaps.

        >>> pairs = InstanceOverlaps.of(np.array([3, 3, 0, 5]), np.array([1, 1, 1, 0]))
        >>> pairs.shared.tolist(), pairs.iou.round(3).tolist(), pairs.truth_voxels.tolist()
        ([2], [0.667], [2, 1])
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth of shape {truth.shape} but prediction of shape {prediction.shape}")
        true_numbers, rows = np.unique(truth, return_inverse=True)
        numbers, columns = np.unique(prediction, return_inverse=True)
        cells, shared = np.unique(rows.ravel() * len(numbers) + columns.ravel(), return_counts=True)
        row, column = np.divmod(cells, len(numbers))
        both = (true_numbers[row] != 0) & (numbers[column] != 0)
        return cls(
            truth_voxels=_without_background(true_numbers, row, shared),
            prediction_voxels=_without_background(numbers, column, shared),
            truth=row[both] - (true_numbers[0] == 0),
            prediction=column[both] - (numbers[0] == 0),
            shared=shared[both],
        )

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair that meets."""
        union = self.truth_voxels[self.truth] + self.prediction_voxels[self.prediction] - self.shared
        return self.shared / union

    def matches(self, threshold: float, chosen: np.ndarray | None = None) -> Matches:
        """What is matched with an intersection over union above the threshold (0.5 or more).

        ``chosen`` (true instances,) bool counts these alone: a predicted instance without a match is a false alarm of
        theirs if the true instance that it covers the most voxels of is one of them.
        """
        if not LEAST_THRESHOLD <= threshold < 1:
            raise ValueError(f"a threshold of {threshold}: allowed is 0.5 up to 1, below it matches are not unique")
        matched = self.iou > threshold
        if chosen is None:
            found = int(matched.sum())
            return Matches(
                found=found,
                false_alarms=len(self.prediction_voxels) - found,
                missed=len(self.truth_voxels) - found,
            )
        found = int((matched & chosen[self.truth]).sum())
        alone = np.ones(len(self.prediction_voxels), dtype=bool)
        alone[self.prediction[matched]] = False
        covers = self._covered_most()
        false_alarms = int((alone & (covers >= 0) & np.append(chosen, False)[covers]).sum())
        return Matches(found=found, false_alarms=false_alarms, missed=int(chosen.sum()) - found)

    def aggregated_jaccard(self) -> float:
        """Aggregated Jaccard index; NaN where there is no instance at all.

        Each true instance with the predicted one of the highest intersection over union adds to the sums of
        intersections and unions, one that meets none its size to the unions, and so does each predicted instance that
        is nobody's best.
        """
        best = np.full(len(self.truth_voxels), -1)
        order = np.argsort(self.iou, kind="stable")
        best[self.truth[order]] = order  # the last to be written is the highest
        partners = best[best >= 0]
        intersections = self.shared[partners].sum()
        unused = np.ones(len(self.prediction_voxels), dtype=bool)
        unused[self.prediction[partners]] = False
        unions = self.truth_voxels.sum() + self.prediction_voxels[self.prediction[partners]].sum() - intersections
        return float(ratio(np.asarray(intersections), np.asarray(unions + self.prediction_voxels[unused].sum())))

    def _covered_most(self) -> NDArray[np.int64]:
        """For each predicted instance the true one that it shares the most voxels with, -1 where it meets none."""
        covered = np.full(len(self.prediction_voxels), -1)
        order = np.argsort(self.shared, kind="stable")
        covered[self.prediction[order]] = self.truth[order]
        return covered


def average_precision(overlaps: InstanceOverlaps, thresholds: Sequence[float] = THRESHOLDS) -> tuple[float, ...]:
    """TP / (TP + FP + FN) at each threshold; NaN where there is no instance at all."""
    return tuple(overlaps.matches(threshold).precision for threshold in thresholds)


def close_instances(instances: np.ndarray, within: float) -> NDArray[np.bool_]:
    """Which instances have another one within so many pixels, in the order of their numbers.

    The distance is that of the two nearest pixels, centre to centre: of instances with one pixel between them it is 2.

    >>> close_instances(np.array([[1, 0, 2, 0, 0, 0, 7]]), within=2).tolist()
    [True, True, False]
    """
    numbers = np.unique(instances)
    numbers = numbers[numbers != 0]
    _, places = np.unique(instances, return_inverse=True)
    places = places.reshape(instances.shape) + (not (instances == 0).any())
    reach = int(np.ceil(within))
    close = np.zeros(len(numbers), dtype=bool)
    for place, box in enumerate(ndimage.find_objects(places)):
        around = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
        part = places[around]
        others = (part != 0) & (part != place + 1)
        if others.any():
            close[place] = ndimage.distance_transform_edt(part != place + 1)[others].min() <= within
    return close


def _without_background(numbers: np.ndarray, place: np.ndarray, voxels: np.ndarray) -> NDArray[np.int64]:
    """Voxels of each number but 0."""
    sizes = np.bincount(place, weights=voxels, minlength=len(numbers)).astype(np.int64)
    return sizes[numbers != 0]

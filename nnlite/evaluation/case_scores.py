"""Every number of one case: two label maps on one grid in, one row per foreground label out.

What a number means, its unit, and what empty masks give is written in docs/concepts/metrics.md. One rule holds for all:
a number is NaN where its formula asks for what is not there, and never an optimistic or pessimistic stand-in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnlite.data.image import NO_DEPTH_MM, Geometry
from nnlite.data.labels import Labels
from nnlite.evaluation import metrics
from nnlite.evaluation.lesions import count_lesions
from nnlite.evaluation.runs import centres_mm, find_runs
from nnlite.evaluation.surface import surface_distances

TOLERANCE_MM = 2.0  # two voxels of the 1 mm that much MR and CT is resampled to; name your own where observers differ


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """How one label fares in one case; NaN: not defined.

    Distances are mm; in pictures, which have no spacing, pixels. Volumes are NaN for 2D images. ``nsd`` depends on the
    tolerance it was computed with.
    """

    case: str
    label: str
    dice: float
    iou: float
    sensitivity: float
    specificity: float
    precision: float
    truth_voxels: int
    prediction_voxels: int
    truth_ml: float
    prediction_ml: float
    volume_error_ml: float
    hd_mm: float
    hd95_mm: float
    asd_mm: float
    nsd: float
    centre_distance_mm: float
    lesion_f1: float
    lesion_sensitivity: float
    lesion_dice: float


def score_case(
    case_id: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    labels: Labels,
    geometry: Geometry,
    *,
    tolerance_mm: float = TOLERANCE_MM,
) -> tuple[LabelScore, ...]:
    """Score each structure of one case; both masks hold label indices (z, y, x) on the grid of ``geometry``.

    Voxels that the truth ignores count as background in both masks for everything that has a surface, and for the rest
    not at all. ``tolerance_mm`` is the distance up to which surfaces count as equal in ``nsd``.
    """
    ignored = None if labels.ignore_index is None else truth == labels.ignore_index
    unknown = 0
    if ignored is not None:
        unknown = int(np.count_nonzero(ignored))
        truth, prediction = np.where(ignored, 0, truth), np.where(ignored, 0, prediction)
    if not labels.regions:
        alone = Labels(names=labels.names, values=labels.values)
        return _score_labels(case_id, truth, prediction, alone, geometry, unknown=unknown, tolerance_mm=tolerance_mm)
    rows: list[LabelScore] = []
    for name, members in zip(labels.structures, labels.members, strict=True):
        true, predicted = (np.isin(indices, members).astype(np.uint8) for indices in (truth, prediction))
        alone = Labels(names=("background", name), values=(0, 1))
        rows += _score_labels(case_id, true, predicted, alone, geometry, unknown=unknown, tolerance_mm=tolerance_mm)
    return tuple(rows)


def _score_labels(
    case_id: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    labels: Labels,
    geometry: Geometry,
    *,
    unknown: int,
    tolerance_mm: float,
) -> tuple[LabelScore, ...]:
    """Score each label of two masks without ignored voxels; ``unknown`` of those both call background do not count."""
    histogram = metrics.joint_histogram(truth, prediction, labels.count)
    hits, false_alarms, misses = metrics.overlap(histogram)
    spared = histogram.sum() - unknown - hits - false_alarms - misses
    truth_runs, prediction_runs = find_runs(truth), find_runs(prediction)
    lesions = count_lesions(truth_runs, prediction_runs, labels.count)
    centres = [centres_mm(runs, geometry.spacing_mm, labels.count) for runs in (truth_runs, prediction_runs)]
    shares = {
        "dice": metrics.dice(hits, false_alarms, misses),
        "iou": metrics.iou(hits, false_alarms, misses),
        "sensitivity": metrics.sensitivity(hits, misses),
        "specificity": metrics.specificity(spared, false_alarms),
        "precision": metrics.precision(hits, false_alarms),
        "truth_ml": (hits + misses) * _voxel_ml(geometry),
        "prediction_ml": (hits + false_alarms) * _voxel_ml(geometry),
        "volume_error_ml": (false_alarms - misses) * _voxel_ml(geometry),
        "centre_distance_mm": np.linalg.norm(centres[0] - centres[1], axis=1),
        "lesion_f1": lesions.f1,
        "lesion_sensitivity": lesions.sensitivity,
        "lesion_dice": lesions.dice,
        **_surface_columns(truth, prediction, geometry, labels.count, tolerance_mm),
    }
    return tuple(
        LabelScore(
            case=case_id,
            label=labels.names[i],
            truth_voxels=int(hits[i] + misses[i]),
            prediction_voxels=int(hits[i] + false_alarms[i]),
            **{name: float(column[i]) for name, column in shares.items()},
        )
        for i in range(1, labels.count)
    )


def _surface_columns(
    truth: np.ndarray, prediction: np.ndarray, geometry: Geometry, count: int, tolerance_mm: float
) -> dict[str, list[float]]:
    """Numbers of the surfaces by label index. A grid of one slice is compared in its plane, by contours."""
    spacing_mm: tuple[float, ...] = geometry.spacing_mm
    if geometry.shape[0] == 1:
        truth, prediction, spacing_mm = truth[0], prediction[0], spacing_mm[1:]
    distances = surface_distances(truth, prediction, spacing_mm, count)
    return {
        "hd_mm": [label.hausdorff_mm() for label in distances],
        "hd95_mm": [label.hausdorff_mm(95) for label in distances],
        "asd_mm": [label.average_mm() for label in distances],
        "nsd": [label.surface_dice(tolerance_mm) for label in distances],
    }


def _voxel_ml(geometry: Geometry) -> float:
    """Volume of a voxel in millilitres; NaN for a 2D image, whose pixels have no depth."""
    planar = geometry.shape[0] == 1 and geometry.spacing_mm[0] == NO_DEPTH_MM
    return float("nan") if planar else geometry.voxel_volume_ml

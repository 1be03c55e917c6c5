"""Every number of one case: two label maps on one grid in, one row per structure (label or region) out.

What a number means, its unit, and what empty masks give is written in docs/concepts/metrics.md. One rule holds for all:
a number is NaN where its formula asks for what is not there, and never an optimistic or pessimistic stand-in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from nnlite.data.annotated import Annotated, names_of
from nnlite.data.image import NO_DEPTH_MM, Geometry
from nnlite.data.labels import Labels
from nnlite.evaluation.lesions import count_lesions
from nnlite.evaluation.metrics import dice, iou, joint_histogram, overlap, precision, sensitivity, specificity
from nnlite.evaluation.runs import Runs, centres_mm, find_runs
from nnlite.evaluation.surface import surface_distances

TOLERANCE_MM = 2.0  # two voxels of the 1 mm that much MR and CT is resampled to; name your own where observers differ
DISTANCES = ("hd_mm", "hd95_mm", "asd_mm", "nsd", "centre_distance_mm")
LESIONS = ("lesion_f1", "lesion_sensitivity", "lesion_dice")
METRICS = ("overlap", "distances", "lesions")  # what can be asked for; overlap and volumes are always there


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """How one label fares in one case; NaN: not defined, or not asked for.

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
    metrics: Collection[str] = METRICS,
    annotated: Annotated | None = None,
) -> tuple[LabelScore, ...]:
    """Score each structure of one case; both masks hold label indices (z, y, x) on the grid of ``geometry``.

    Structures that are not ``annotated`` in the truth have no row; None says that all are.

    Voxels that the truth ignores count as background in both masks for everything that has a surface, and for the rest
    not at all; where the prediction alone has their value, it found nothing. ``tolerance_mm`` is the distance up to
    which surfaces count as equal in ``nsd``. ``metrics`` may leave out the "distances" and the "lesions", which take
    longer than the overlap.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth of shape {truth.shape} but prediction of shape {prediction.shape}")
    counted = truth.size
    if labels.ignore_index is not None:
        ignored = truth == labels.ignore_index
        left_open = prediction == labels.ignore_index  # where another observer left out what this one drew
        truth, prediction = np.where(ignored, 0, truth), np.where(ignored | left_open, 0, prediction)
        counted -= int(np.count_nonzero(ignored))
    asked = _Asked(voxels=counted, geometry=geometry, tolerance_mm=tolerance_mm, metrics=metrics)
    masks = _cropped(truth, prediction)
    scored = set(names_of(labels, annotated))
    if not labels.regions:
        return tuple(row for row in _score_labels(case_id, masks, labels.names, asked) if row.label in scored)
    rows: list[LabelScore] = []
    for name, members in zip(labels.structures, labels.members, strict=True):
        if name not in scored:
            continue
        alone = tuple(np.isin(mask, members).view(np.uint8) for mask in masks)
        rows += _score_labels(case_id, (alone[0], alone[1]), ("background", name), asked)
    return tuple(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What all structures of a case share: its ``voxels`` that count, inside of the compared box and outside of it."""

    voxels: int
    geometry: Geometry
    tolerance_mm: float
    metrics: Collection[str]


def _score_labels(
    case_id: str, masks: tuple[np.ndarray, np.ndarray], names: Sequence[str], asked: _Asked
) -> tuple[LabelScore, ...]:
    """Score each label but the first, the background, of truth and prediction in a box around their foreground."""
    count, metrics, geometry = len(names), asked.metrics, asked.geometry
    histogram = joint_histogram(*masks, count)
    histogram[0, 0] += asked.voxels - masks[0].size  # what is outside is background in both, what is ignored nothing
    columns = dict.fromkeys((*DISTANCES, *LESIONS), np.full(count, np.nan)) | _overlap_columns(histogram, geometry)
    if not {"distances", "lesions"}.isdisjoint(metrics):
        runs = find_runs(masks[0]), find_runs(masks[1])
    if "distances" in metrics:
        columns |= _distance_columns(masks, runs, geometry, count, asked.tolerance_mm)
    if "lesions" in metrics:
        lesions = count_lesions(*runs, count)
        columns |= dict(zip(LESIONS, (lesions.f1, lesions.sensitivity, lesions.dice), strict=True))
    truth_voxels, prediction_voxels = histogram.sum(axis=1), histogram.sum(axis=0)
    return tuple(
        LabelScore(
            case=case_id,
            label=names[i],
            truth_voxels=int(truth_voxels[i]),
            prediction_voxels=int(prediction_voxels[i]),
            **{name: float(column[i]) for name, column in columns.items()},
        )
        for i in range(1, count)
    )


def _cropped(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks in the box around their foreground; as they are where that would only copy most of them."""
    box = _foreground_box(truth, prediction)
    if 2 * truth[box].size > truth.size:
        return truth, prediction
    return np.ascontiguousarray(truth[box]), np.ascontiguousarray(prediction[box])


def _foreground_box(*masks: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box around the foreground of all masks (z, y, x); one voxel where there is none."""
    depth = np.logical_or.reduce([mask.reshape(len(mask), -1).any(axis=1) for mask in masks])
    plane = np.logical_or.reduce([mask.any(axis=0) for mask in masks])
    z, y, x = (_extent(line) for line in (depth, plane.any(axis=1), plane.any(axis=0)))
    return z, y, x


def _extent(line: np.ndarray) -> slice:
    places = np.flatnonzero(line)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 1)


def _overlap_columns(histogram: np.ndarray, geometry: Geometry) -> dict[str, np.ndarray]:
    """Numbers of the voxels and volumes by label index."""
    hits, false_alarms, misses = overlap(histogram)
    spared = histogram.sum() - hits - false_alarms - misses
    voxel_ml = _voxel_ml(geometry)
    return {
        "dice": dice(hits, false_alarms, misses),
        "iou": iou(hits, false_alarms, misses),
        "sensitivity": sensitivity(hits, misses),
        "specificity": specificity(spared, false_alarms),
        "precision": precision(hits, false_alarms),
        "truth_ml": (hits + misses) * voxel_ml,
        "prediction_ml": (hits + false_alarms) * voxel_ml,
        "volume_error_ml": (false_alarms - misses) * voxel_ml,
    }


def _distance_columns(
    masks: tuple[np.ndarray, np.ndarray],
    runs: tuple[Runs, Runs],
    geometry: Geometry,
    count: int,
    tolerance_mm: float,
) -> dict[str, np.ndarray]:
    """Numbers of the surfaces and centres by label index.

    A grid of one slice, across whichever axis, is compared in its plane, by contours.
    """
    truth, prediction = masks
    spacing_mm: tuple[float, ...] = geometry.spacing_mm
    if 1 in geometry.shape:
        across = geometry.shape.index(1)
        truth, prediction = (mask.take(0, axis=across) for mask in masks)
        spacing_mm = spacing_mm[:across] + spacing_mm[across + 1 :]
    found = surface_distances(truth, prediction, spacing_mm, count)
    true_centres, centres = (centres_mm(one, geometry.spacing_mm, count) for one in runs)
    return {
        "hd_mm": np.array([label.hausdorff_mm() for label in found]),
        "hd95_mm": np.array([label.hausdorff_mm(95) for label in found]),
        "asd_mm": np.array([label.average_mm() for label in found]),
        "nsd": np.array([label.surface_dice(tolerance_mm) for label in found]),
        "centre_distance_mm": np.linalg.norm(true_centres - centres, axis=1),
    }


def _voxel_ml(geometry: Geometry) -> float:
    """Volume of a voxel in millilitres; NaN for a 2D image, whose pixels have no depth."""
    planar = geometry.shape[0] == 1 and geometry.spacing_mm[0] == NO_DEPTH_MM
    return float("nan") if planar else geometry.voxel_volume_ml

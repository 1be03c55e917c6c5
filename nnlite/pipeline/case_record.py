"""What is written beside each mask: how far it can be trusted, what is unusual about its image, and what made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nnlite.data.image import Image, StoredGrid
from nnlite.data.records import record
from nnlite.evaluation.reliability import LabelCalibration
from nnlite.inference.familiarity import Familiarity, Finding, familiarity
from nnlite.inference.predict import Model
from nnlite.inference.reliability import LabelFeatures, ReliabilityMeter
from nnlite.pipeline.trained_model import TrainedModel
from nnlite.planning.appearance import Appearance

RECORD_SUFFIX = ".prediction.json"  # CASE.json is what many datasets call the notes of an image


@record
class PredictedBy:
    """The model that made a mask: its dataset, configurations and folds, and what chose them (None: nothing did)."""

    dataset: str
    configurations: tuple[str, ...]
    folds: tuple[str, ...]
    mirroring: bool
    selection: str | None
    postprocessing: tuple[str, ...]
    versions: dict[str, str]


@record
class LabelRecord:
    """One label of a predicted mask; None is what does not exist, such as the volume of a 2D image.

    ``expected_dice`` is calibrated, ``expected_error`` how far off it is on average; ``remark`` says why there is none.
    """

    voxels: int
    volume_ml: float | None
    expected_dice: float | None
    expected_error: float | None
    remark: str
    features: LabelFeatures


@record
class CaseRecord:
    """One prediction. ``unusual`` is what no training image has; ``not_checked`` what could not be compared."""

    case: str
    labels: dict[str, LabelRecord]
    unusual: tuple[Finding, ...]
    not_checked: tuple[str, ...]
    predicted_by: PredictedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """What the records of all cases have in common: the model, how it was calibrated, what it was trained on.

    ``departures`` are the options for which it was not calibrated.
    """

    model: Model
    predicted_by: PredictedBy
    calibrations: dict[str, LabelCalibration] = field(default_factory=dict)
    departures: tuple[str, ...] = ()
    appearance: Appearance | None = None

    def look(self, image: Image) -> Familiarity:
        """What is unusual about an image; of one with other channels than the model's only its header is judged."""
        seen = self._compared(image)
        odd = tuple(
            Finding(check="header", what=remark, remedy="see in a viewer that the mask fits", value=image.stored.suffix)
            for remark in image.remarks
        )
        return replace(seen, findings=(*odd, *seen.findings))

    def _compared(self, image: Image) -> Familiarity:
        """The image against the training images."""
        plan = self.model.plan
        known = self.appearance
        if known is None or any(len(one.channels) != len(plan.channels) for one in known.images):
            return Familiarity(findings=(), not_checked=("all: there is no appearance.json of these channels",))
        if len(image.array) != len(plan.channels):
            return Familiarity(findings=(), not_checked=("all: the image has other channels",))
        return familiarity(image, known, plan, self.model.configuration)

    def record(
        self, case_id: str, grid: StoredGrid, indices: np.ndarray, meter: ReliabilityMeter, seen: Familiarity
    ) -> CaseRecord:
        """The record of a mask of label indices (z, y, x), as it is written."""
        labels = self.model.plan.labels
        counts = np.bincount(indices.ravel(), minlength=labels.count)
        voxel_ml = None if grid.planar else grid.geometry.voxel_volume_ml
        records = {}
        for features, members in zip(meter.features(), labels.members, strict=True):
            voxels = int(counts[list(members)].sum())
            calibration = self.calibrations.get(features.label)
            expected, remark = self._expected(features, calibration, voxels)
            records[features.label] = LabelRecord(
                voxels=voxels,
                volume_ml=None if voxel_ml is None else voxels * voxel_ml,
                expected_dice=expected,
                expected_error=None if expected is None or calibration is None else calibration.mean_absolute_error,
                remark=remark,
                features=features,
            )
        return CaseRecord(
            case=case_id,
            labels=records,
            unusual=seen.findings,
            not_checked=seen.not_checked,
            predicted_by=self.predicted_by,
        )

    def _expected(
        self, features: LabelFeatures, calibration: LabelCalibration | None, voxels: int
    ) -> tuple[float | None, str]:
        """The calibrated Dice of a label with so many voxels, or in words why there is none."""
        if features.estimated_dice is None:
            if calibration is None:
                return None, "not predicted"
            return (
                None,
                f"not predicted; of {calibration.not_predicted} such held-out cases {calibration.missed} have it",
            )
        if not voxels:  # features are from before postprocessing
            return None, "not predicted: nothing of it is left in the finished mask"
        if self.predicted_by.selection is None:
            return None, "not calibrated: nnlite select did not choose this model"
        if self.departures:
            options = " and ".join(self.departures)
            return None, f"not calibrated: held-out cases were predicted without {options}; leave that out"
        if calibration is None:
            return None, "not calibrated: too few held-out cases, or selected by an earlier nnlite; run nnlite select"
        expected = calibration.expected_dice({name: getattr(features, name) for name in calibration.weights})
        if expected is None:
            return None, f"not calibrated: held-out cases had {', '.join(calibration.weights)}; predict with mirroring"
        return expected, ""


def recorder(trained: TrainedModel, rules: Sequence[str], *, mirroring: bool) -> Recorder:
    """What the records of a model have in common; ``rules`` are those of postprocessing, in words."""
    return Recorder(
        model=trained.models[0],
        predicted_by=PredictedBy(
            dataset=trained.models[0].plan.dataset,
            configurations=trained.configurations,
            folds=trained.folds,
            mirroring=mirroring,
            selection=str(trained.selection) if trained.selection else None,
            postprocessing=tuple(rules),
            versions={name: version(name) for name in ("nnlite", "torch")},
        ),
        calibrations=trained.calibrations,
        departures=trained.departures,
        appearance=trained.appearance,
    )


def record_path(output: Path, case_id: str) -> Path:
    """Where the record of a case lies, beside its mask."""
    return output / f"{case_id}{RECORD_SUFFIX}"

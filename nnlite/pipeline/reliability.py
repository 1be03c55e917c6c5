"""What is known of the reliability of held-out cases, on disk: measured when a fold is predicted, judged by ``select``.

``read_reliability`` gives what a report shows: for each held-out case and label the Dice that was expected without
knowing its truth, and the true one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

from nnlite.data.records import read_record, record, write_record
from nnlite.data.split import Split
from nnlite.evaluation.reliability import HeldOutReliability, LabelCalibration, calibrate
from nnlite.inference.reliability import LabelFeatures
from nnlite.workspace import EnsembleFolder, RunFolder, Workspace

Measured = dict[str, tuple[LabelFeatures, ...]]
"""What was measured of each label, by case id."""


@record
class MeasuredCases:
    """What was measured of held-out cases while they were predicted, by case id; labels in the order of the plan."""

    cases: Measured


@record
class Reliability:
    """The held-out cases of the selected ``members``: a row for each case and label, in the order of the folds."""

    members: tuple[str, ...]
    rows: tuple[HeldOutReliability, ...]


def read_measured(folder: RunFolder | EnsembleFolder) -> Measured:
    """What was measured of the held-out cases of a training or an ensemble; empty where nothing was."""
    return read_record(folder.reliability, MeasuredCases).cases if folder.reliability.exists() else {}


def write_measured(folder: RunFolder | EnsembleFolder, cases: Measured) -> None:
    """Keep what was measured of the held-out cases of a training or an ensemble."""
    write_record(folder.reliability, MeasuredCases(cases=cases))


def read_reliability(workspace: Workspace) -> tuple[HeldOutReliability, ...]:
    """Expected and true Dice of each held-out case and label, as ``select`` left them; empty before it did."""
    return read_record(workspace.reliability, Reliability).rows if workspace.reliability.exists() else ()


def judge(
    measured: Measured, dice: Mapping[tuple[str, str], float], folds: Mapping[str, Split]
) -> tuple[dict[str, LabelCalibration], tuple[HeldOutReliability, ...]]:
    """Calibrate each label that has cases enough, and the rows of all; ``dice`` is given by case id and label."""
    by_label: dict[str, list[HeldOutReliability]] = {}
    for fold, split in folds.items():
        for case_id in split.validation:
            for features in measured[case_id]:
                if (case_id, features.label) not in dice:
                    continue  # not annotated: nothing is known of its truth
                true = dice[case_id, features.label]
                row = HeldOutReliability(
                    case=case_id,
                    fold=fold,
                    label=features.label,
                    estimated_dice=features.estimated_dice,
                    flip_agreement=features.flip_agreement,
                    configuration_agreement=features.configuration_agreement,
                    expected_dice=None,
                    dice=None if isnan(true) else true,
                )
                by_label.setdefault(features.label, []).append(row)
    judged = {label: calibrate(rows) for label, rows in by_label.items()}
    calibrations = {label: calibration for label, (calibration, _) in judged.items() if calibration is not None}
    return calibrations, tuple(row for _, rows in judged.values() for row in rows)

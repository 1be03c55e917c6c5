"""Choose the rules of postprocessing on the masks of held-out cases, and measure what they do together.

Masks are read one case after the other: once for their components, once for the holes that remain, and, where a rule
is accepted, once to measure all rules as they will be applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnlite.data.annotated import Annotated, annotated_structures, names_of
from nnlite.data.channels import grid_differences
from nnlite.data.dataset import Case
from nnlite.data.image import read_label
from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.errors import WorkspaceError
from nnlite.evaluation import metrics
from nnlite.evaluation.choose_rules import RuleTrial, components_of, holes_of, try_component_rules, try_filling
from nnlite.evaluation.cross_validation import mean_dice
from nnlite.inference.postprocess import Postprocessing, SizeUnit, apply
from nnlite.pipeline.ensemble_held_out import truth_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPostprocessing:
    """The accepted rules, all that were tried, and the mean Dice with those accepted."""

    postprocessing: Postprocessing
    trials: tuple[RuleTrial, ...]
    mean_dice: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Label indices (z, y, x) of one held-out case."""

    truth: np.ndarray
    prediction: np.ndarray
    voxel_ml: float
    annotated: Annotated | None


def choose_postprocessing(
    cases: Sequence[Case],
    validation: Callable[[str], Path],
    labels: Labels,
    deciding: Sequence[str],
    *,
    progress: Progress = silent,
) -> ChosenPostprocessing:
    """Try rules on the predicted masks of held-out cases; ``validation`` names the folder of each case's mask.

    ``deciding`` are the labels that some truth holds. ``WorkspaceError`` names a mask that is missing or on another
    grid than its truth.
    """

    def pairs(what: str) -> Iterator[_Pair]:
        for done, case in enumerate(cases, start=1):
            yield _read(case, validation(case.id), labels)
            progress(what, done, len(cases))

    def repaired(pair: _Pair) -> np.ndarray:
        return apply(pair.prediction, chosen, labels, voxel_ml=pair.voxel_ml)

    unit: SizeUnit = "voxels" if truth_of(cases[0]).planar else "ml"
    parts = [
        components_of(p.truth, p.prediction, labels, voxel_ml=p.voxel_ml, unit=unit, annotated=p.annotated)
        for p in pairs("look at components")
    ]
    trials = try_component_rules(parts, labels, deciding, unit)
    chosen = _accepted(trials)
    gaps = [holes_of(p.truth, repaired(p), labels, annotated=p.annotated) for p in pairs("look at holes")]
    filling = try_filling(gaps, labels, deciding)
    trials += filling
    chosen = _accepted(trials)
    measured = filling[0].mean_dice_before
    if any(trial.accepted for trial in filling):
        rows = [_dice(p, repaired(p), labels) for p in pairs("measure the rules")]
        measured = mean_dice(np.stack(rows)[:, [labels.structures.index(name) for name in deciding]])
    return ChosenPostprocessing(postprocessing=chosen, trials=trials, mean_dice=measured)


def repaired_dice(
    cases: Sequence[Case],
    validation: Callable[[str], Path],
    labels: Labels,
    postprocessing: Postprocessing,
    *,
    progress: Progress = silent,
) -> dict[tuple[str, str], float]:
    """Dice of each held-out case and annotated label after these rules; NaN where truth and mask are both empty."""
    dice: dict[tuple[str, str], float] = {}
    for done, case in enumerate(cases, start=1):
        pair = _read(case, validation(case.id), labels)
        row = _dice(pair, apply(pair.prediction, postprocessing, labels, voxel_ml=pair.voxel_ml), labels)
        by_label = dict(zip(labels.structures, row, strict=True))
        dice |= {(case.id, label): float(by_label[label]) for label in names_of(labels, pair.annotated)}
        progress("score the repaired masks", done, len(cases))
    return dice


def _accepted(trials: Sequence[RuleTrial]) -> Postprocessing:
    return Postprocessing(rules=tuple(trial.rule for trial in trials if trial.accepted))


def _dice(pair: _Pair, mask: np.ndarray, labels: Labels) -> np.ndarray:
    histogram = metrics.joint_histogram(pair.truth, mask, labels.index_count)
    dice = metrics.dice(*metrics.overlap_of(histogram, labels.members, ignore=labels.ignore_index))
    return dice if pair.annotated is None else np.where(pair.annotated, dice, np.nan)


def _read(case: Case, folder: Path, labels: Labels) -> _Pair:
    truth = truth_of(case)
    path = folder / f"{case.id}{truth.stored.mask_suffix}"
    if not path.exists():
        raise WorkspaceError(
            f"the predicted mask {path} is gone; delete {folder.parent / 'scores.json'} and run nnlite train again "
            "(nnlite select for an ensemble): that predicts it once more"
        )
    mask = read_label(path)
    if differences := grid_differences(truth, mask, names=("truth", "prediction")):
        raise WorkspaceError(f"{path}: {'; '.join(differences)}; the dataset has changed, so train this fold again")
    true, predicted = (labels.to_indices(image.array[0]) for image in (truth, mask))
    return _Pair(
        truth=true,
        prediction=predicted,
        voxel_ml=truth.geometry.voxel_volume_ml,
        annotated=annotated_structures(labels, case.annotated),
    )

"""Which held-out cases a report shows, and their images and masks, small enough to travel inside a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from nnlite.data.channels import grid_differences, read_channels
from nnlite.data.dataset import Case, Dataset
from nnlite.data.image import read_label
from nnlite.data.progress import Progress
from nnlite.data.split import Splits
from nnlite.errors import DatasetError, ImageError
from nnlite.evaluation.report.contents import Rank, ScoredCandidate, ShownCase
from nnlite.evaluation.report.volumes import PackedVolume, pack
from nnlite.evaluation.scores import Scores
from nnlite.pipeline.case_preview import window
from nnlite.planning.planner import Plan
from nnlite.workspace import Workspace

WORST, TYPICAL, BEST = 6, 3, 3  # cases shown: one learns most from failures
MOST_BYTES = 8_000_000  # of all pictures, before base64 makes a third more of them: the page stays below 15 MB
BYTES_PER_VOXEL = 1.1  # a grey level that compression cannot help, and two labels that it helps very much


def shown_cases(
    dataset: Dataset,
    workspace: Workspace,
    plan: Plan,
    splits: Splits,
    candidate: ScoredCandidate | None,
    *,
    progress: Progress,
) -> tuple[tuple[ShownCase, ...], tuple[str, ...]]:
    """The worst, typical and best cases of a candidate, the worst first; and in words those that cannot be read."""
    if candidate is None:
        return (), ()
    dice = dice_by_case(candidate.scores)
    ranked = ranks(dice)
    cases = {case.id: case for case in dataset.cases}
    fold_of = {case: name for name, split in zip(splits.names, splits.folds, strict=True) for case in split.validation}
    shown: list[ShownCase] = []
    faults: list[str] = []
    for done, (case_id, rank) in enumerate(ranked.items(), start=1):
        try:
            if case_id not in cases:
                raise DatasetError("no longer in the dataset")
            folder = masks_of(workspace, candidate.name, fold_of[case_id])
            volume = _packed(cases[case_id], folder, plan, most_voxels=_voxels_for(len(ranked)))
        except (ImageError, DatasetError) as error:
            faults.append(f"{case_id} cannot be shown: {error}")
        else:
            shown.append(
                ShownCase(
                    case_id=case_id,
                    rank=rank,
                    fold=fold_of[case_id],
                    mean_dice=_mean(dice[case_id]),
                    dice=dice[case_id],
                    volume=volume,
                )
            )
        progress("read cases to show", done, len(ranked))
    return tuple(shown), tuple(faults)


def dice_by_case(scores: Scores) -> dict[str, dict[str, float]]:
    """Dice by case and label."""
    table: dict[str, dict[str, float]] = {}
    for row in scores.rows:
        table.setdefault(row.case, {})[row.label] = row.dice
    return table


def ranks(dice: Mapping[str, Mapping[str, float]]) -> dict[str, Rank]:
    """Which cases are worst, typical (around the median) and best by their mean over labels, from worst to best.

    Of few cases half are worst at most. Cases without any label in truth and prediction have no mean and no rank.
    """
    known = {case: _mean(labels) for case, labels in dice.items()}
    order = sorted((case for case in known if not math.isnan(known[case])), key=lambda case: (known[case], case))
    worst = order[: min(WORST, math.ceil(len(order) / 2))]
    best = order[len(worst) :][-BEST:]
    rest = order[len(worst) : len(order) - len(best)]
    middle = len(order) // 2
    typical = sorted(rest, key=lambda case: abs(order.index(case) - middle))[:TYPICAL]
    named: dict[str, Rank] = dict.fromkeys(worst, "worst")
    named |= dict.fromkeys(sorted(typical, key=order.index), "typical")
    return named | dict.fromkeys(best, "best")


def masks_of(workspace: Workspace, candidate: str, fold: str) -> Path:
    """The folder of the masks that a configuration, or an ensemble, predicted for the cases a fold held out."""
    members = candidate.split(" + ")
    return workspace.run(candidate, fold).validation if len(members) == 1 else workspace.ensemble(members).validation


def _packed(case: Case, folder: Path, plan: Plan, *, most_voxels: int) -> PackedVolume:
    """Read a case's image, truth and predicted mask, and make them small."""
    assert case.label is not None, f"{case.id} is held out to be scored, so it has a label"
    image, truth = read_channels(case.images, reference=plan.reference), read_label(case.label)
    prediction = read_label(folder / f"{case.id}{truth.stored.mask_suffix}")
    if differences := grid_differences(truth, prediction, names=("truth", "prediction")):
        raise DatasetError("; ".join(differences))
    true, predicted = (plan.labels.to_indices(mask.array[0]) for mask in (truth, prediction))
    return pack(
        image.array,
        true,
        predicted,
        spacing_mm=image.geometry.spacing_mm,
        planar=image.planar,
        channels=plan.channels,
        most_voxels=most_voxels,
        window=window(plan),
    )


def _voxels_for(cases: int) -> int:
    return int(MOST_BYTES / BYTES_PER_VOXEL / max(cases, 1))


def _mean(labels: Mapping[str, float]) -> float:
    known: Sequence[float] = [dice for dice in labels.values() if not math.isnan(dice)]
    return fmean(known) if known else math.nan

"""How many separate lesions were found, and how well: label maps in, counts for all labels at once out.

A lesion is a connected component of a label (26 neighbours, 8 in a single slice). A true lesion is found if the
prediction of the same label covers at least one of its voxels; a predicted one is a false alarm if it covers no voxel
of the truth. Counting so is the way of the ISLES 2022 challenge (Hernandez Petzsche et al., Scientific Data 9:762,
2022), the Dice by lesion that of BraTS-METS 2023 (Moawad et al., arXiv:2306.00838), without its dilation of the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnlite.evaluation.metrics import ratio
from nnlite.evaluation.runs import Runs, components, meeting


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionCounts:
    """Per label index: true lesions found and missed, predicted ones that are false alarms, and the sum of Dice.

    ``dice_sums`` adds up the Dice of each true lesion with all predicted lesions that touch it, taken together.
    """

    found: NDArray[np.int64]
    missed: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    dice_sums: NDArray[np.float64]

    @property
    def sensitivity(self) -> np.ndarray:
        """Share of the true lesions that was found; NaN where there is none."""
        return ratio(self.found, self.found + self.missed)

    @property
    def f1(self) -> np.ndarray:
        """2 found / (2 found + missed + false alarms); NaN where neither mask has a lesion."""
        return ratio(2 * self.found, 2 * self.found + self.missed + self.false_alarms)

    @property
    def dice(self) -> np.ndarray:
        """Mean Dice over lesions, each missed lesion and each false alarm counting 0; NaN where there is no lesion."""
        return ratio(self.dice_sums, self.found + self.missed + self.false_alarms)


def count_lesions(truth: Runs, prediction: Runs, count: int) -> LesionCounts:
    """Lesions of labels 0 to count - 1 in two label maps of one shape.

    >>> from nnlite.evaluation.runs import find_runs
    >>> truth, prediction = np.array([[[1, 1, 0, 1, 0, 0]]]), np.array([[[0, 1, 0, 0, 0, 1]]])
    >>> lesions = count_lesions(find_runs(truth), find_runs(prediction), count=2)
    >>> lesions.found[1].item(), lesions.missed[1].item(), lesions.false_alarms[1].item()
    (1, 1, 1)
    """
    true_lesions, predicted_lesions = _Lesions.of(truth), _Lesions.of(prediction)
    ours, theirs = meeting(truth, prediction)
    common = np.minimum(truth.stops[ours], prediction.stops[theirs]) - np.maximum(
        truth.starts[ours], prediction.starts[theirs]
    )
    number = len(predicted_lesions.voxels)
    pairs, place = np.unique(true_lesions.of_run[ours] * number + predicted_lesions.of_run[theirs], return_inverse=True)
    shared = np.bincount(place, weights=common, minlength=len(pairs))
    lesion, partner = np.divmod(pairs, max(number, 1))
    total = len(true_lesions.voxels)
    overlap = np.bincount(lesion, weights=shared, minlength=total)
    size_of_partners = np.bincount(lesion, weights=predicted_lesions.voxels[partner], minlength=total)
    dice = 2 * overlap / (true_lesions.voxels + size_of_partners)
    hit = overlap > 0
    lonely = np.ones(number, dtype=bool)
    lonely[partner] = False
    return LesionCounts(
        found=np.bincount(true_lesions.labels[hit], minlength=count),
        missed=np.bincount(true_lesions.labels[~hit], minlength=count),
        false_alarms=np.bincount(predicted_lesions.labels[lonely], minlength=count),
        dice_sums=np.bincount(true_lesions.labels, weights=dice, minlength=count).astype(np.float64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesions:
    """The components of a label map: ``of_run`` names that of each run, ``labels`` and ``voxels`` describe each."""

    of_run: np.ndarray
    labels: np.ndarray
    voxels: np.ndarray

    @classmethod
    def of(cls, runs: Runs) -> _Lesions:
        number, of_run = components(runs)
        labels = np.zeros(number, dtype=runs.labels.dtype)
        labels[of_run] = runs.labels
        voxels = np.bincount(of_run, weights=runs.lengths, minlength=number)
        return cls(of_run=of_run.astype(np.int64), labels=labels, voxels=voxels)

"""Whether a dense CRF helps on cross-validation: of a few sets of parameters the best, if any is better than none.

It is kept only where the mean Dice over all held-out cases rises and no label pays for it, as nnU-Net judges the
largest component of all foreground (Isensee et al., Nature Methods 18, 203-211, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnlite.data.records import record
from nnlite.evaluation.cross_validation import TIE, better_and_worse, mean_dice
from nnlite.inference.crf import CrfParameters

SMOOTHNESS_WEIGHT = 2.0
SMOOTHNESS_VOXELS = 1.5  # of the finest spacing: a speck's neighbours
APPEARANCE_VOXELS = 6.0  # how far intensities are compared
APPEARANCE_WEIGHTS = (3.0, 10.0)  # both weights weigh against the logarithm of the network's probability
APPEARANCE_INTENSITIES = (0.25, 0.75)  # of a standard deviation of the image


@record
class CrfTrial:
    """A CRF that was tried, and the mean Dice without and with it; ``reason`` tells why it was rejected."""

    parameters: CrfParameters
    accepted: bool
    mean_dice_before: float
    mean_dice_after: float
    cases_better: int
    cases_worse: int
    reason: str


def crf_choices(spacing_mm: Sequence[float]) -> tuple[CrfParameters, ...]:
    """The parameters that are tried for images of this spacing.

    >>> [(one.appearance_mm, one.appearance_weight, one.appearance_intensity) for one in crf_choices((2.0, 0.5, 0.5))]
    [(3.0, 3.0, 0.25), (3.0, 3.0, 0.75), (3.0, 10.0, 0.25), (3.0, 10.0, 0.75)]
    """
    finest_mm = min(spacing_mm)
    return tuple(
        CrfParameters(
            smoothness_weight=SMOOTHNESS_WEIGHT,
            smoothness_mm=SMOOTHNESS_VOXELS * finest_mm,
            appearance_weight=weight,
            appearance_mm=APPEARANCE_VOXELS * finest_mm,
            appearance_intensity=intensity,
        )
        for weight in APPEARANCE_WEIGHTS
        for intensity in APPEARANCE_INTENSITIES
    )


def judge_crf(
    choices: Sequence[CrfParameters], before: np.ndarray, after: Sequence[np.ndarray], deciding: Sequence[str]
) -> tuple[CrfTrial, ...]:
    """A trial for each choice, at most one of them accepted; Dice (cases, labels) without and with each of them."""
    means = [mean_dice(table) for table in after]
    reasons = [_reason(before, table, deciding) for table in after]
    usable = [number for number, reason in enumerate(reasons) if not reason]
    best = max(usable, key=lambda number: means[number], default=None)
    trials = []
    for number, (parameters, table) in enumerate(zip(choices, after, strict=True)):
        better, worse = better_and_worse(table, before)
        accepted = number == best
        trials.append(
            CrfTrial(
                parameters=parameters,
                accepted=accepted,
                mean_dice_before=mean_dice(before),
                mean_dice_after=means[number],
                cases_better=better,
                cases_worse=worse,
                reason="" if accepted else reasons[number] or "another choice is better",
            )
        )
    return tuple(trials)


def _reason(before: np.ndarray, after: np.ndarray, deciding: Sequence[str]) -> str:
    """Why a CRF is not to be used, in words; empty where it may be."""
    if not mean_dice(after) - mean_dice(before) > TIE:
        return "the mean Dice does not rise"
    falls = np.nanmean(after, axis=0) - np.nanmean(before, axis=0)
    losers = [name for name, change in zip(deciding, falls, strict=True) if change < -TIE]
    return f"the Dice of {', '.join(losers)} falls" if losers else ""

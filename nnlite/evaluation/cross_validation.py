"""Compare what was predicted for the same held-out cases, and decide: which configuration or ensemble is the model.

The highest mean foreground Dice over cross-validation wins and ties go to the simpler, as in nnU-Net (Isensee et al.,
Nature Methods 18, 203-211, 2021). What says how sure that is stands beside the means: bootstrap confidence intervals
over cases (Efron, Annals of Statistics 7, 1-26, 1979), paired, and Wilcoxon's signed-rank test (Biometrics Bulletin 1,
80-83, 1945) of the cases' means. They inform; they do not decide.

A Dice is NaN where truth and prediction are both empty. Only labels that the truth of some held-out case holds count:
for them every candidate has a mean, so no NaN ever meets a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnlite.data.faults import LISTED_CASES
from nnlite.data.records import record
from nnlite.errors import DatasetError, WorkspaceError
from nnlite.evaluation.scores import Scores

TIE = 1e-4  # Dice is reported to three or four digits; less than that is no reason for a second network or another rule
RESAMPLES = 10_000  # the ends of a 95 % interval then vary by about 1 % of its width
RESAMPLES_AT_ONCE = 500  # bounds the memory to a few MB for thousands of cases
SEED = 12345  # of the resamples: the same scores always give the same interval
INTERVAL = (0.025, 0.975)  # 95 % of the resamples
SCORE_AGAIN = (
    "delete their scores.json (in runs/CONFIG/FOLD or ensembles/NAME of the workspace) and run nnlite train, or for "
    "ensembles nnlite select, again: masks are kept, and only scored anew"
)
"""The way out where scores are older than the labels."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to predict: a configuration, or an ensemble of several, with its scores on the held-out cases.

    Of two ways that tie the one with fewer members is taken, then the one with fewer ``parameters``.
    """

    members: tuple[str, ...]
    scores: Scores
    parameters: int

    @property
    def name(self) -> str:
        """The members' names, joined."""
        return name_of(self.members)


@record
class CandidateScore:
    """How a candidate did. ``labels`` holds the mean Dice of each label, ``mean_dice`` their mean.

    ``difference`` is this candidate's mean less the chosen one's, from the same cases. Intervals hold 95 % of the
    bootstrap resamples; None where fewer than two cases are scored. ``wilcoxon_p`` is None for the chosen one itself.
    """

    members: tuple[str, ...]
    mean_dice: float
    mean_dice_interval: Interval | None
    labels: dict[str, float]
    difference: float
    difference_interval: Interval | None
    wilcoxon_p: float | None
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All candidates, the one that others are compared with first, these by falling mean; and remarks in words."""

    candidates: tuple[CandidateScore, ...]
    labels: tuple[str, ...]
    remarks: tuple[str, ...]


def name_of(members: Sequence[str]) -> str:
    """What a configuration or an ensemble is called.

    >>> name_of(("2d", "3d"))
    '2d + 3d'
    """
    return " + ".join(members)


def compare(candidates: Sequence[Candidate], *, against: int | None = None) -> Comparison:
    """Choose among candidates that were scored on the same cases, or set the others ``against`` one of them.

    ``DatasetError`` where there is nothing to choose by: no truth holds a label, or no prediction holds any.
    ``WorkspaceError`` where the labels of a case have changed between their scores.
    """
    cases = candidates[0].scores.cases
    for other in candidates[1:]:
        if set(other.scores.cases) != set(cases):
            raise ValueError(f"{other.name} was scored on other cases than {candidates[0].name}")
    _require_same_truth(candidates)
    deciding, remarks = _deciding_labels(candidates)
    tables = np.stack([dice_table(candidate.scores, cases, deciding) for candidate in candidates])
    means = [mean_dice(table) for table in tables]
    chosen = _choose(candidates, means) if against is None else against
    resampled = _resampled_means(tables)
    enough = len(cases) > 1

    def score(number: int) -> CandidateScore:
        differences = resampled[:, number] - resampled[:, chosen]
        return CandidateScore(
            members=candidates[number].members,
            mean_dice=means[number],
            mean_dice_interval=_interval(resampled[:, number]) if enough else None,
            labels=dict(zip(deciding, np.nanmean(tables[number], axis=0).tolist(), strict=True)),
            difference=means[number] - means[chosen],
            difference_interval=_interval(differences) if enough else None,
            wilcoxon_p=None if number == chosen else _wilcoxon_p(tables[number], tables[chosen]),
            parameters=candidates[number].parameters,
        )

    order = sorted(range(len(candidates)), key=lambda number: (number != chosen, -means[number]))
    return Comparison(candidates=tuple(map(score, order)), labels=deciding, remarks=remarks)


def dice_table(scores: Scores, cases: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Dice (cases, labels) float64; NaN where truth and prediction are both empty, or the label is not annotated."""
    rows = {(row.case, row.label): row.dice for row in scores.rows}
    return np.array([[rows.get((case, label), np.nan) for label in labels] for case in cases], dtype=np.float64)


def mean_dice(table: np.ndarray) -> float:
    """Mean over labels of the mean over cases (cases, labels) in which the Dice is defined.

    >>> mean_dice(np.array([[0.8, 0.4], [0.6, np.nan]]))
    0.55
    """
    return float(np.nanmean(table, axis=0).mean())


def case_means(table: np.ndarray) -> np.ndarray:
    """Mean Dice (cases,) over the labels that are defined in each case; NaN where none is."""
    defined = ~np.isnan(table)
    count = defined.sum(axis=1)
    return np.divide(np.nansum(table, axis=1), count, out=np.full(len(table), np.nan), where=count > 0)


def paired_differences(table: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By how much the case means of one are above the other's (cases,); NaN where neither has any.

    A Dice that is undefined on one side alone means that this one was rightly empty where the other made something up.
    It stands as what it is in the mean of its label, which goes without that case: as that mean. So the differences of
    a label's cases have the difference of its means for their own mean.

    >>> paired_differences(np.array([[0.8], [np.nan]]), np.array([[0.8], [0.0]]))
    array([0. , 0.8])
    """
    alone = np.isnan(table) != np.isnan(other)
    first, second = (np.where(alone & np.isnan(one), np.nanmean(one, axis=0), one) for one in (table, other))
    return case_means(first) - case_means(second)


def better_and_worse(after: np.ndarray, before: np.ndarray) -> tuple[int, int]:
    """How many cases are better after something was changed than before, and how many worse: by more than ``TIE``.

    >>> better_and_worse(after=np.array([[0.8], [0.5], [np.nan]]), before=np.array([[0.8], [0.6], [0.0]]))
    (1, 1)
    """
    change = paired_differences(after, before)
    return int((change > TIE).sum()), int((change < -TIE).sum())


def _require_same_truth(candidates: Sequence[Candidate]) -> None:
    """``WorkspaceError`` where the scores of a case tell of truths of different sizes; candidates share their labels.

    A label that one truth had annotated and another had not is a difference, too.
    """
    sizes = {one.name: {(row.case, row.label): row.truth_voxels for row in one.scores.rows} for one in candidates}
    require_same_truth(sizes, counted="voxels", cases=len(candidates[0].scores.cases))


def require_same_truth(sizes: Mapping[str, Mapping[tuple[str, str], int]], *, counted: str, cases: int) -> None:
    """``WorkspaceError`` where candidates, by their names, know other sizes of the true (case, label).

    ``counted`` is what a size counts, and ``cases`` how many are compared.
    """
    differing: dict[str, str] = {}
    for case, label in dict.fromkeys(place for known in sizes.values() for place in known):
        found = {name: known.get((case, label)) for name, known in sizes.items()}
        if case not in differing and len(set(found.values())) > 1:
            told = (f"{name} {'none' if n is None else n}" for name, n in found.items())
            differing[case] = f"{label} of {case}, in {counted} of the truth: {', '.join(told)}"
    if differing:
        more = ", .." * (len(differing) > LISTED_CASES)
        raise WorkspaceError(
            f"{len(differing)} of {cases} cases were scored against other labels for some "
            f"than for others: {', '.join([*differing][:LISTED_CASES])}{more} ({next(iter(differing.values()))}); for "
            f"those that were scored before the labels changed, {SCORE_AGAIN}"
        )


def _deciding_labels(candidates: Sequence[Candidate]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels that some truth holds, and remarks on the others and on candidates that find nothing."""
    scores = candidates[0].scores
    present = {row.label for row in scores.rows if row.truth_voxels > 0}
    if not present:
        raise DatasetError(
            f"none of the {len(scores.cases)} held-out cases has any foreground in its truth, so nothing can be "
            "chosen by it; check the labels with nnlite check"
        )
    remarks = [
        f"{label}: in the truth of no held-out case; it decides nothing"
        for label in scores.labels
        if label not in present
    ]
    empty = [one.name for one in candidates if not any(row.prediction_voxels for row in one.scores.rows)]
    if len(empty) == len(candidates):
        raise DatasetError(
            f"{', '.join(empty)}: no foreground was predicted in any of the {len(scores.cases)} held-out cases, so "
            "there is nothing to choose; train longer, and look at progress.png in the folders of the runs"
        )
    remarks += [f"{name}: no foreground was predicted in any held-out case" for name in empty]
    return tuple(label for label in scores.labels if label in present), tuple(remarks)


def _choose(candidates: Sequence[Candidate], means: Sequence[float]) -> int:
    """The simplest of those whose mean is the highest: fewest members, then fewest parameters."""
    best = max(means)
    tied = [number for number, mean in enumerate(means) if best - mean < TIE]
    return min(tied, key=lambda number: (len(candidates[number].members), candidates[number].parameters))


def _resampled_means(tables: np.ndarray) -> np.ndarray:
    """``mean_dice`` of each candidate (resamples, candidates) for cases drawn with replacement, the same for all.

    A label that no drawn case defines does not count in that resample; NaN where that leaves none.
    """
    cases = tables.shape[1]
    rng = np.random.default_rng(SEED)
    defined = ~np.isnan(tables)
    known = np.where(defined, tables, 0.0)
    parts = []
    for first in range(0, RESAMPLES, RESAMPLES_AT_ONCE):
        number = min(RESAMPLES_AT_ONCE, RESAMPLES - first)
        drawn = rng.multinomial(cases, np.full(cases, 1 / cases), size=number).astype(np.float64)
        counts = np.einsum("rc,kcl->rkl", drawn, defined.astype(np.float64), optimize=True)
        sums = np.einsum("rc,kcl->rkl", drawn, known, optimize=True)
        labels = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
        some = (counts > 0).sum(axis=2)
        parts.append(np.divide(labels.sum(axis=2), some, out=np.full(some.shape, np.nan), where=some > 0))
    return np.concatenate(parts)


def _interval(resampled: np.ndarray) -> Interval | None:
    defined = resampled[~np.isnan(resampled)]
    if not defined.size:
        return None
    low, high = np.quantile(defined, INTERVAL).tolist()
    return low, high


def _wilcoxon_p(table: np.ndarray, chosen: np.ndarray) -> float:
    """Two-sided p of the cases' paired means; those that are equal count for nothing, and where all are it is 1."""
    from scipy.stats import wilcoxon

    differences = paired_differences(table, chosen)
    differences = differences[~np.isnan(differences) & (differences != 0)]  # with zeros scipy would approximate
    if not differences.size:
        return 1.0
    return float(wilcoxon(differences).pvalue)

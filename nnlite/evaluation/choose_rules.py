"""Which rules of postprocessing help on cross-validation: each is tried, and kept only where the mean Dice rises.

First the largest component of all foreground, which no label may pay for, then label by label, as in nnU-Net (Isensee
et al., Nature Methods 18, 203-211, 2021); here also a minimum size, and holes. A component is kept or dropped as a
whole, so a table of all components (size, and voxels that are right) answers every such question: masks are read once
for it, and once more for the holes that the chosen rules leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnlite.data.labels import Labels
from nnlite.data.records import record
from nnlite.evaluation import metrics
from nnlite.evaluation.cross_validation import TIE, case_means, mean_dice
from nnlite.evaluation.runs import components, find_runs, meeting
from nnlite.inference.postprocess import Rule, SizeUnit, fill_holes, voxel_size

LOST_COMPONENTS = (0.0, 0.01, 0.05, 0.1)  # a minimum size may be the size below which so many true components lie


@record
class RuleTrial:
    """A rule that was tried on top of those accepted for other labels before, and the mean Dice without and with it.

    ``cases_better`` and ``cases_worse`` count held-out cases by their own mean. ``reason`` tells why it was rejected.
    """

    rule: Rule
    accepted: bool
    mean_dice_before: float
    mean_dice_after: float
    cases_better: int
    cases_worse: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseComponents:
    """The predicted components of one case, one entry each, in z, y, x order of their first voxels.

    ``label`` and ``voxels``, those of them that are right (``hits``), and the component of all foreground that each is
    part of (``whole``, counted from 0). ``truth_voxels`` is by label index; ``true_components`` has (label, voxels).
    """

    label: np.ndarray
    voxels: np.ndarray
    hits: np.ndarray
    whole: np.ndarray
    truth_voxels: np.ndarray
    true_components: np.ndarray
    voxel_size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseHoles:
    """Voxels by label index: predicted, right, true; and those in holes of the label, and which of them are right."""

    voxels: np.ndarray
    hits: np.ndarray
    truth_voxels: np.ndarray
    hole_voxels: np.ndarray
    hole_hits: np.ndarray


def components_of(
    truth: np.ndarray, prediction: np.ndarray, labels: Labels, *, voxel_ml: float, unit: SizeUnit
) -> CaseComponents:
    """The components of a predicted mask; both masks hold label indices (z, y, x)."""
    runs, true_runs = find_runs(prediction), find_runs(truth)
    count, of_run = components(runs)
    ours, theirs = meeting(runs, true_runs)
    right = np.minimum(runs.stops[ours], true_runs.stops[theirs]) - np.maximum(
        runs.starts[ours], true_runs.starts[theirs]
    )
    label, whole = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    label[of_run] = runs.labels
    foreground = find_runs((prediction != 0).astype(np.uint8))
    _, of_foreground_run = components(foreground)
    parts, wholes = meeting(replace(runs, labels=np.ones_like(runs.labels)), foreground)
    whole[of_run[parts]] = of_foreground_run[wholes]
    true_count, of_true_run = components(true_runs)
    true_components = np.zeros((true_count, 2), dtype=np.int64)
    true_components[of_true_run, 0] = true_runs.labels
    true_components[:, 1] = _sums(of_true_run, true_runs.lengths, true_count)
    return CaseComponents(
        label=label,
        voxels=_sums(of_run, runs.lengths, count),
        hits=_sums(of_run[ours], right, count),
        whole=whole,
        truth_voxels=_sums(true_runs.labels, true_runs.lengths, labels.count),
        true_components=true_components,
        voxel_size=voxel_size(voxel_ml, unit),
    )


def holes_of(truth: np.ndarray, mask: np.ndarray, labels: Labels) -> CaseHoles:
    """What filling the holes of each label alone would add to a mask (z, y, x)."""
    histogram = metrics.joint_histogram(truth, mask, labels.count)
    hole_voxels, hole_hits = np.zeros((2, labels.count), dtype=np.int64)
    for index in range(1, labels.count):
        box, new = fill_holes(mask.copy(), index)
        hole_voxels[index] = np.count_nonzero(new)
        hole_hits[index] = np.count_nonzero(truth[box][new] == index)
    return CaseHoles(
        voxels=histogram.sum(axis=0),
        hits=histogram.diagonal(),
        truth_voxels=histogram.sum(axis=1),
        hole_voxels=hole_voxels,
        hole_hits=hole_hits,
    )


def try_component_rules(
    cases: Sequence[CaseComponents], labels: Labels, deciding: Sequence[str], unit: SizeUnit
) -> tuple[RuleTrial, ...]:
    """Try rules that drop whole components; ``deciding`` names the labels that some truth holds.

    A label gets one rule at most: its largest component or a minimum size, whichever gives the higher mean Dice.
    """
    columns = [labels.names.index(name) for name in deciding]
    kept = [np.ones(len(case.label), dtype=bool) for case in cases]
    trials: list[RuleTrial] = []

    def after(rule: Rule) -> list[np.ndarray]:
        return [_still_kept(case, keep, rule, labels) for case, keep in zip(cases, kept, strict=True)]

    def attempt(rule: Rule) -> RuleTrial:
        before_and_after = (_component_table(cases, keep, labels.count)[:, columns] for keep in (kept, after(rule)))
        return judge(rule, *before_and_after)

    for name in (None, *deciding):
        options = [attempt(Rule(operation="keep_largest", label=name))]
        if name is not None:
            sizes = _true_sizes(cases, labels.names.index(name))
            rules = [Rule(operation="minimum_size", label=name, minimum_size=size, unit=unit) for size in sizes]
            options += sorted(map(attempt, rules), key=lambda trial: -trial.mean_dice_after)[:1]
        options = _best_alone(options)
        trials += options
        for trial in options:
            if trial.accepted:
                kept = after(trial.rule)
    return tuple(trials)


def try_filling(cases: Sequence[CaseHoles], labels: Labels, deciding: Sequence[str]) -> tuple[RuleTrial, ...]:
    """Try to fill the holes of each label, apart from the others: they seldom share a hole."""
    columns = [labels.names.index(name) for name in deciding]
    before = np.stack([_dice(case.hits, case.voxels, case.truth_voxels) for case in cases])
    trials = []
    for name, column in zip(deciding, columns, strict=True):
        after = before.copy()
        filled = [_dice(c.hits + c.hole_hits, c.voxels + c.hole_voxels, c.truth_voxels)[column] for c in cases]
        after[:, column] = filled
        trial = judge(Rule(operation="fill_holes", label=name), before[:, columns], after[:, columns])
        trials.append(trial)
        if trial.accepted:
            before = after
    return tuple(trials)


def judge(rule: Rule, before: np.ndarray, after: np.ndarray) -> RuleTrial:
    """Accept a rule if the mean Dice rises by ``TIE`` at least and no label's falls; tables are (cases, labels)."""
    means = mean_dice(before), mean_dice(after)
    falls = ~(np.nanmean(after, axis=0) >= np.nanmean(before, axis=0))
    change = case_means(after) - case_means(before)
    reason = ""
    if np.array_equal(before, after, equal_nan=True):
        reason = "changes no mean"
    elif not means[1] > means[0]:  # so put that a NaN is never a rise
        reason = "the mean Dice does not rise"
    elif falls.any():
        reason = "the Dice of a label falls"
    elif not means[1] - means[0] >= TIE:
        reason = f"the mean Dice rises by less than {TIE:g}"
    return RuleTrial(
        rule=rule,
        accepted=not reason,
        mean_dice_before=means[0],
        mean_dice_after=means[1],
        cases_better=int((change > 0).sum()),
        cases_worse=int((change < 0).sum()),
        reason=reason,
    )


def _best_alone(options: Sequence[RuleTrial]) -> list[RuleTrial]:
    """Of the accepted trials only the one with the highest mean, the first where they tie, stays accepted."""
    accepted = [trial for trial in options if trial.accepted]
    best = max(accepted, key=lambda trial: trial.mean_dice_after, default=None)
    return [
        replace(trial, accepted=False, reason="another rule for this label does better")
        if trial.accepted and trial is not best
        else trial
        for trial in options
    ]


def _still_kept(case: CaseComponents, kept: np.ndarray, rule: Rule, labels: Labels) -> np.ndarray:
    """Which components stay when a rule meets those that are ``kept`` so far."""
    if rule.label is None:
        sizes = np.bincount(case.whole, weights=case.voxels * kept)
        return kept & (case.whole == np.argmax(sizes)) if sizes.size else kept
    own = case.label == labels.names.index(rule.label)
    if rule.minimum_size is not None:
        return kept & (~own | (case.voxels * case.voxel_size >= rule.minimum_size))
    rivals = np.flatnonzero(kept & own)
    if not rivals.size:
        return kept
    largest = rivals[np.argmax(case.voxels[rivals])]
    return kept & (~own | (np.arange(len(own)) == largest))


def _true_sizes(cases: Sequence[CaseComponents], index: int) -> list[float]:
    """Sizes below which ``LOST_COMPONENTS`` of the true components of a label lie, in the unit of ``voxel_size``."""
    sizes = np.concatenate(
        [case.true_components[case.true_components[:, 0] == index, 1] * case.voxel_size for case in cases]
    )
    return np.unique(np.quantile(sizes, LOST_COMPONENTS, method="lower")).tolist() if sizes.size else []


def _component_table(cases: Sequence[CaseComponents], kept: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Dice (cases, label indices) of the components that are kept."""
    rows = []
    for case, keep in zip(cases, kept, strict=True):
        hits = _sums(case.label[keep], case.hits[keep], count)
        rows.append(_dice(hits, _sums(case.label[keep], case.voxels[keep], count), case.truth_voxels))
    return np.stack(rows)


def _dice(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return metrics.dice(hits, predicted - hits, true - hits)


def _sums(group: np.ndarray, numbers: np.ndarray, groups: int) -> np.ndarray:
    """Sum of the numbers of each group, int64."""
    return np.bincount(group, weights=numbers, minlength=groups).astype(np.int64)

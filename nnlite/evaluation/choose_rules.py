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

from nnlite.data.annotated import Annotated
from nnlite.data.labels import Labels
from nnlite.data.records import record
from nnlite.evaluation import metrics
from nnlite.evaluation.cross_validation import TIE, better_and_worse, mean_dice
from nnlite.evaluation.runs import Runs, components, find_runs, meeting
from nnlite.inference.postprocess import Rule, SizeUnit, fill_holes, voxel_size

LOST_COMPONENTS = (0.0, 0.01, 0.05, 0.1)  # a minimum size may be the size below which so many true components lie


@record
class RuleTrial:
    """A rule that was tried on top of those accepted for other labels before, and the mean Dice without and with it.

    ``cases_better`` and ``cases_worse`` are those of ``better_and_worse``. ``reason`` tells why it was rejected.
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

    ``label`` and ``voxels``; those of the voxels that can be judged (``judged``), and (components, structures) those
    that are right (``hits``); and the component of all foreground that each is part of (``whole``, counted from 0).
    ``truth_voxels`` is by structure; ``true_components`` has (label, voxels). ``annotated`` are the structures that the
    truth tells of.
    """

    label: np.ndarray
    voxels: np.ndarray
    judged: np.ndarray
    hits: np.ndarray
    whole: np.ndarray
    truth_voxels: np.ndarray
    true_components: np.ndarray
    voxel_size: float
    annotated: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseHoles:
    """Voxels by structure: predicted, right, true; and what filling the holes of each label would add.

    ``hole_voxels`` is by label index, ``hole_hits`` (labels, structures) tells which of them are right for a structure
    that the label is part of. Voxels that cannot be judged are left out.
    """

    voxels: np.ndarray
    hits: np.ndarray
    truth_voxels: np.ndarray
    hole_voxels: np.ndarray
    hole_hits: np.ndarray
    annotated: np.ndarray


def components_of(
    truth: np.ndarray,
    prediction: np.ndarray,
    labels: Labels,
    *,
    voxel_ml: float,
    unit: SizeUnit,
    annotated: Annotated | None = None,
) -> CaseComponents:
    """The components of a predicted mask; both masks hold label indices (z, y, x)."""
    runs, true_runs = find_runs(prediction), find_runs(truth)
    count, of_run = components(runs)
    label, whole = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    label[of_run] = runs.labels
    foreground = find_runs((prediction != 0).astype(np.uint8))
    _, of_foreground_run = components(foreground)
    parts, wholes = meeting(_unnamed(runs), foreground)
    whole[of_run[parts]] = of_foreground_run[wholes]
    true_count, of_true_run = components(true_runs)
    true_components = np.zeros((true_count, 2), dtype=np.int64)
    true_components[of_true_run, 0] = true_runs.labels
    true_components[:, 1] = _sums(of_true_run, true_runs.lengths, true_count)
    shared = _shared_voxels(runs, true_runs, of_run, count, labels)
    part_of = _part_of(labels)
    voxels = _sums(of_run, runs.lengths, count)
    return CaseComponents(
        label=label,
        voxels=voxels,
        judged=voxels if labels.ignore_index is None else voxels - shared[:, labels.ignore_index],
        hits=(shared[:, : labels.count] @ part_of) * part_of[label],
        whole=whole,
        truth_voxels=_sums(true_runs.labels, true_runs.lengths, labels.index_count)[: labels.count] @ part_of,
        true_components=true_components,
        voxel_size=voxel_size(voxel_ml, unit),
        annotated=_judged(labels, annotated),
    )


def holes_of(truth: np.ndarray, mask: np.ndarray, labels: Labels, *, annotated: Annotated | None = None) -> CaseHoles:
    """What filling the holes of each label alone would add to a mask (z, y, x)."""
    histogram = metrics.joint_histogram(truth, mask, labels.index_count)
    hits, false_alarms, misses = metrics.overlap_of(histogram, labels.members, ignore=labels.ignore_index)
    hole_voxels = np.zeros(labels.count, dtype=np.int64)
    hole_hits = np.zeros((labels.count, len(labels.structures)), dtype=np.int64)
    part_of = _part_of(labels)
    for index in range(1, labels.count):
        box, new = fill_holes(mask.copy(), index)
        true = np.bincount(truth[box][new], minlength=labels.index_count)[: labels.count]  # ignored ones come last
        hole_voxels[index] = true.sum()
        hole_hits[index] = (true @ part_of) * part_of[index]
    return CaseHoles(
        voxels=hits + false_alarms,
        hits=hits,
        truth_voxels=hits + misses,
        hole_voxels=hole_voxels,
        hole_hits=hole_hits,
        annotated=_judged(labels, annotated),
    )


def try_component_rules(
    cases: Sequence[CaseComponents], labels: Labels, deciding: Sequence[str], unit: SizeUnit
) -> tuple[RuleTrial, ...]:
    """Try rules that drop whole components; ``deciding`` names the structures that some truth holds.

    A label gets one rule at most: its largest component or a minimum size, whichever gives the higher mean Dice.
    """
    columns = [labels.structures.index(name) for name in deciding]
    kept = [np.ones(len(case.label), dtype=bool) for case in cases]
    trials: list[RuleTrial] = []

    def after(rule: Rule) -> list[np.ndarray]:
        return [_still_kept(case, keep, rule, labels) for case, keep in zip(cases, kept, strict=True)]

    def attempt(rule: Rule) -> RuleTrial:
        before_and_after = (_component_table(cases, keep, labels)[:, columns] for keep in (kept, after(rule)))
        return judge(rule, *before_and_after)

    for name in (None, *_labels_of(deciding, labels)):
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
    columns = [labels.structures.index(name) for name in deciding]
    part_of = _part_of(labels)
    hits, voxels = np.stack([case.hits for case in cases]), np.stack([case.voxels for case in cases])
    truth_voxels = np.stack([case.truth_voxels for case in cases])
    unknown = ~np.stack([case.annotated for case in cases])
    trials = []
    for name in _labels_of(deciding, labels):
        index = labels.names.index(name)
        more_hits = hits + np.stack([case.hole_hits[index] for case in cases])
        more_voxels = voxels + np.stack([case.hole_voxels[index] for case in cases])[:, None] * part_of[index]
        before, after = _dice(hits, voxels, truth_voxels), _dice(more_hits, more_voxels, truth_voxels)
        before[unknown] = after[unknown] = np.nan
        trial = judge(Rule(operation="fill_holes", label=name), before[:, columns], after[:, columns])
        trials.append(trial)
        if trial.accepted:
            hits, voxels = more_hits, more_voxels
    return tuple(trials)


def judge(rule: Rule, before: np.ndarray, after: np.ndarray) -> RuleTrial:
    """Accept a rule if the mean Dice rises by ``TIE`` at least and no label's falls; tables are (cases, labels)."""
    means = mean_dice(before), mean_dice(after)
    falls = ~(np.nanmean(after, axis=0) >= np.nanmean(before, axis=0))
    better, worse = better_and_worse(after, before)
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
        cases_better=better,
        cases_worse=worse,
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


def _component_table(cases: Sequence[CaseComponents], kept: Sequence[np.ndarray], labels: Labels) -> np.ndarray:
    """Dice (cases, structures) of the components that are kept."""
    rows = []
    for case, keep in zip(cases, kept, strict=True):
        predicted = _sums(case.label[keep], case.judged[keep], labels.count) @ _part_of(labels)
        dice = _dice(case.hits[keep].sum(axis=0), predicted, case.truth_voxels)
        rows.append(np.where(case.annotated, dice, np.nan))
    return np.stack(rows)


def _labels_of(structures: Sequence[str], labels: Labels) -> list[str]:
    """Names of the labels that these structures consist of, in the order of the table."""
    members = dict(zip(labels.structures, labels.members, strict=True))
    return [labels.names[index] for index in sorted({index for name in structures for index in members[name]})]


def _part_of(labels: Labels) -> np.ndarray:
    """Whether each label is part of each structure: (labels, structures) of 0 and 1."""
    table = np.zeros((labels.count, len(labels.structures)), dtype=np.int64)
    for structure, members in enumerate(labels.members):
        table[list(members), structure] = 1
    return table


def _judged(labels: Labels, annotated: Annotated | None) -> np.ndarray:
    """Whether each structure is annotated, as an array."""
    return np.ones(len(labels.structures), dtype=bool) if annotated is None else np.array(annotated)


def _shared_voxels(runs: Runs, true_runs: Runs, of_run: np.ndarray, count: int, labels: Labels) -> np.ndarray:
    """Voxels of each component by the index that the truth has there: (components, indices); background is left out."""
    ours, theirs = meeting(_unnamed(runs), _unnamed(true_runs))
    lengths = np.minimum(runs.stops[ours], true_runs.stops[theirs]) - np.maximum(
        runs.starts[ours], true_runs.starts[theirs]
    )
    cells = of_run[ours] * labels.index_count + true_runs.labels[theirs]
    return _sums(cells, lengths, count * labels.index_count).reshape(count, labels.index_count)


def _unnamed(runs: Runs) -> Runs:
    """The same runs as if all were of one label."""
    return replace(runs, labels=np.ones_like(runs.labels))


def _dice(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return metrics.dice(hits, predicted - hits, true - hits)


def _sums(group: np.ndarray, numbers: np.ndarray, groups: int) -> np.ndarray:
    """Sum of the numbers of each group, int64."""
    return np.bincount(group, weights=numbers, minlength=groups).astype(np.int64)

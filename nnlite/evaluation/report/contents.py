"""What a report tells, as plain values: gathered by the pipeline, laid out by ``page.py``.

Whatever does not exist yet is empty here, and its absence is told in words in ``missing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nnlite.data.labels import Labels
from nnlite.evaluation.choose_crf import CrfTrial
from nnlite.evaluation.choose_rules import RuleTrial
from nnlite.evaluation.cross_validation import CandidateScore
from nnlite.evaluation.instance_scores import InstanceSummary
from nnlite.evaluation.reliability import HeldOutReliability, LabelCalibration
from nnlite.evaluation.report.volumes import PackedVolume
from nnlite.evaluation.scores import Scores
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.planner import Plan
from nnlite.training.curves import EpochRecord

Rank = Literal["worst", "typical", "best"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """A case of the dataset: shape (z, y, x) after cropping zeros away, spacing, and the fold that holds it out."""

    case_id: str
    shape: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None
    fold: str
    group: str
    site: str = ""
    annotated: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """The dataset as it was planned. ``planar``: 2D images, whose spacing and volume mean nothing."""

    name: str
    root: str
    layout: str
    planar: bool
    fingerprint: Fingerprint
    cases: tuple[CaseFacts, ...]
    folds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One training: how far it is, and every epoch of it. ``length`` and ``loss`` are what was asked for, in words."""

    configuration: str
    fold: str
    state: str
    length: str
    loss: str
    epochs: tuple[EpochRecord, ...]
    mean_dice: float | None
    device: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCandidate:
    """A configuration or an ensemble with the scores of the cases that its finished ``folds`` held out.

    ``instances`` scores the single objects in these cases, None where they are not told apart.
    """

    name: str
    scores: Scores
    folds: tuple[str, ...]
    instances: InstanceSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCase:
    """A held-out case to look at; ``dice`` by label, NaN where neither mask holds it."""

    case_id: str
    rank: Rank
    fold: str
    mean_dice: float
    dice: Mapping[str, float]
    volume: PackedVolume


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why the model was selected: see the fields of selection.json. ``outdated`` tells why it no longer holds."""

    name: str
    rules: tuple[str, ...]
    cases: int
    labels: tuple[str, ...]
    mean_dice: float
    mean_dice_postprocessed: float
    candidates: tuple[CandidateScore, ...]
    trials: tuple[RuleTrial, ...]
    crf_trials: tuple[CrfTrial, ...]
    left_out: Mapping[str, str]
    remarks: tuple[str, ...]
    outdated: str = ""

    @property
    def tried(self) -> tuple[tuple[str, CrfTrial | RuleTrial], ...]:
        """What was tried of postprocessing, each in words, in its order: CRFs, then rules."""
        crfs = ((trial.parameters.in_words(), trial) for trial in self.crf_trials)
        return (*crfs, *((trial.rule.in_words(), trial) for trial in self.trials))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How well the Dice of held-out cases was foretold without their truth; ``calibrations`` by label."""

    rows: tuple[HeldOutReliability, ...]
    calibrations: Mapping[str, LabelCalibration]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line to type, and what it does."""

    line: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContents:
    """Everything. ``shown_candidate`` is the one whose masks the ``shown`` cases have; empty where none has any."""

    made: str
    versions: Mapping[str, str]
    dataset: DatasetFacts
    plan: Plan
    courses: tuple[Course, ...]
    candidates: tuple[ScoredCandidate, ...]
    shown_candidate: str
    shown: tuple[ShownCase, ...]
    evidence: Evidence | None
    reliability: Reliability | None
    commands: tuple[Command, ...]
    missing: tuple[str, ...]

    @property
    def labels(self) -> Labels:
        """The label table of the plan."""
        return self.plan.labels

    @property
    def main(self) -> ScoredCandidate | None:
        """The candidate that the summary tells of, None where nothing is scored."""
        return next((one for one in self.candidates if one.name == self.shown_candidate), None)

"""A whole model in one file, to be handed on: what ``nnlite export`` writes and ``nnlite predict`` reads anywhere.

The file is an ``Archive``: every bit of it is checked when it is opened, and its members are read where they lie, never
extracted. It holds nothing of single patients, see docs/how-to/hand-a-model-on.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nnlite.data.archive import Archive, open_archive, write_archive
from nnlite.data.records import from_json, record, to_json
from nnlite.errors import CheckpointError
from nnlite.evaluation.cross_validation import CandidateScore
from nnlite.evaluation.reliability import LabelCalibration
from nnlite.evaluation.scores import Summary
from nnlite.inference.postprocess import Postprocessing
from nnlite.planning.appearance import Appearance
from nnlite.planning.planner import Plan
from nnlite.planning.variants import CONFIGURATIONS, NAME, SIGN
from nnlite.training.checkpoint import Checkpoint, parse_model

T = TypeVar("T")

SUFFIX = ".nnlite"
ZIP_BEGINS = b"PK"
MODEL, PLAN, APPEARANCE, LICENCE = "model.json", "plan.json", "appearance.json", "LICENCE.txt"
NAMES = re.compile(
    r"(model|plan|appearance)\.json|LICENCE\.txt"
    rf"|weights/({'|'.join(CONFIGURATIONS)})({SIGN}{NAME})?/(fold\d{{1,4}}|all)\.safetensors"
)
LARGEST_TEXT = 2**26  # the appearance of ten thousand training images takes a sixth


@record
class PackedRun:
    """A training whose network is in the file, and the ``versions`` of the programs that trained it."""

    configuration: str
    fold: str
    versions: dict[str, str]

    @property
    def weights(self) -> str:
        """Name of the member with its network."""
        return f"weights/{self.configuration}/{self.fold}.safetensors"


@record
class PackedModel:
    """What the networks in the file are together.

    ``members`` are the configurations that answer together, each with these ``folds``; ``runs`` are all trainings,
    those of a cascade's first stage included. ``selected`` is how the members did in cross-validation when ``nnlite
    select`` chose them, None where it did not; ``mean_dice_postprocessed`` the same with ``postprocessing``, and
    ``reliability`` how to expect the Dice of a label. ``scores`` are means over held-out cases by configuration, and of
    the members together.
    """

    members: tuple[str, ...]
    folds: tuple[str, ...]
    runs: tuple[PackedRun, ...]
    postprocessing: Postprocessing
    selected: CandidateScore | None
    mean_dice_postprocessed: float | None
    reliability: dict[str, LabelCalibration]
    scores: dict[str, Summary]

    def folds_of(self, configuration: str) -> tuple[str, ...]:
        """The folds of a configuration whose networks are in the file."""
        return tuple(run.fold for run in self.runs if run.configuration == configuration)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model file that was opened and found whole.

    ``plan`` is that of the first configuration that answers. Others may follow other plans, of the same labels and
    channels: each network's own is on its card. Masks of a cascade's first stage mean the same; how single objects come
    apart, and mirrors, may differ there.
    """

    archive: Archive
    model: PackedModel
    plan: Plan
    appearance: Appearance | None
    licence: str

    def source(self, run: PackedRun) -> str:
        """How messages call the network of a run."""
        return f"{run.weights} of {self.archive.path}"

    def checkpoint(self, run: PackedRun) -> Checkpoint:
        """A network of the file; ``CheckpointError`` where it is damaged, or not what the rest of the file says."""
        checkpoint = parse_model(self.archive.contents[run.weights], self.source(run))
        card = checkpoint.card
        if (card.configuration, card.fold) != (run.configuration, run.fold):
            raise CheckpointError(f"{self.source(run)} is {card.configuration} {card.fold}")
        labels, expected = card.plan.labels, self.plan.labels
        if run.configuration not in self.model.members:  # a first stage, of which the second sees nothing but masks
            labels, expected = labels.of_masks, expected.of_masks
        if (labels, card.plan.channels) != (expected, self.plan.channels):
            raise CheckpointError(f"{self.source(run)} has other labels or channels than {PLAN}")
        return checkpoint


def is_model_file(path: Path) -> bool:
    """Whether a path is to be read as a model file: by its suffix, or because it begins like one."""
    if not path.is_file():
        return False
    if path.suffix == SUFFIX:
        return True
    with path.open("rb") as file:
        return file.read(len(ZIP_BEGINS)) == ZIP_BEGINS


def write_model_file(
    path: Path,
    model: PackedModel,
    plan: Plan,
    *,
    appearance: Appearance | None,
    licence: str,
    weights: Iterable[Path],
    versions: Mapping[str, str],
) -> None:
    """Write a model file so that it appears whole; ``weights`` are the files of ``model.runs``, in their order."""
    contents: dict[str, bytes | Path] = {MODEL: to_json(model).encode(), PLAN: to_json(plan).encode()}
    if appearance is not None:
        contents[APPEARANCE] = to_json(appearance).encode()
    contents[LICENCE] = licence.encode()
    contents |= {run.weights: file for run, file in zip(model.runs, weights, strict=True)}
    write_archive(path, contents, versions)


def read_model_file(path: Path) -> ModelFile:
    """Open a model file; ``CheckpointError`` tells what is wrong with it. Networks are read when they are asked for."""
    archive = open_archive(path, NAMES)
    for member in archive.manifest.members:
        if not member.name.startswith("weights/") and member.size > LARGEST_TEXT:
            raise CheckpointError(f"{member.name} of {path} has {member.size} bytes; none has more than {LARGEST_TEXT}")

    model, plan = _record(archive, MODEL, PackedModel), _record(archive, PLAN, Plan)
    _require_agreement(archive, model, plan)
    return ModelFile(
        archive=archive,
        model=model,
        plan=plan,
        appearance=_record(archive, APPEARANCE, Appearance) if APPEARANCE in archive.contents else None,
        licence=archive.text(LICENCE),
    )


def _record(archive: Archive, name: str, kind: type[T]) -> T:
    return from_json(archive.text(name), kind, source=f"{name} of {archive.path}", error=CheckpointError)


def _require_agreement(archive: Archive, model: PackedModel, plan: Plan) -> None:
    """Raise ``CheckpointError`` where members, networks, plan and rules contradict each other."""
    weights = sorted(name for name in archive.contents if name.startswith("weights/"))
    if weights != sorted(run.weights for run in model.runs):
        raise CheckpointError(f"{archive.path} has other networks than its {MODEL} lists")
    answering = [(name, fold) for name in model.members for fold in model.folds]
    there = {(run.configuration, run.fold) for run in model.runs}
    if not answering or len(set(answering)) < len(answering) or not there.issuperset(answering):
        raise CheckpointError(
            f"{archive.path} lacks networks of {_listed(model.members) or 'any configuration'} for "
            f"{_listed(model.folds) or 'any fold'}"
        )
    named = {rule.label for rule in model.postprocessing.rules} - {None}
    if unknown := {str(label) for label in named} - set(plan.labels.foreground):
        raise CheckpointError(f"{archive.path} has rules for {_listed(unknown)}, which is no label of its {PLAN}")


def _listed(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names))

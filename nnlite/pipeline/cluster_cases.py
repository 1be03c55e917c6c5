"""The cases of a prediction on the workers of a cluster, a task each.

A worker loads the models with its first case and keeps them. It writes what belongs to the case; which cases are done
is noted where the command runs, so that an interrupted prediction goes on, with a cluster or without.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch

from nnlite.data.dataset import Case
from nnlite.data.faults import named_in_errors
from nnlite.data.memory import keep_freed_memory
from nnlite.inference.postprocess import Postprocessing
from nnlite.inference.predict import Model
from nnlite.pipeline.case_preview import previews_of
from nnlite.pipeline.case_record import CaseRecord, Recorder, recorder
from nnlite.pipeline.case_steps import CaseSteps, ReadCase
from nnlite.pipeline.choose_runs import ChosenRuns, load_models
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.mask_output import OutputFormat, mask_output


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """All that a worker needs to know besides the case.

    ``command`` is another for each prediction: what workers keep in memory may be trained anew before the next one.
    """

    chosen: ChosenRuns
    rules: Postprocessing
    output: Path
    device: str
    mirroring: bool
    step: float
    exact: bool
    probabilities: bool
    entropy: bool
    previews: bool
    output_format: OutputFormat
    series: str | None
    command: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCase:
    """What a worker has written of a case, and in how many seconds."""

    mask: Path
    record: CaseRecord
    beside: tuple[str, ...]
    seconds: float


def for_workers(errand: Errand) -> Errand:
    """An errand whose paths mean the same in every process."""
    members = tuple(tuple(replace(run, folder=run.folder.absolute()) for run in runs) for runs in errand.chosen.members)
    return replace(errand, chosen=replace(errand.chosen, members=members), output=errand.output.absolute())


def predict_on_worker(case: Case, errand: Errand) -> WrittenCase:
    """Read, predict and write one case; errors name it."""
    with named_in_errors(f"case {case.id}"):
        started = time.perf_counter()
        models, notes = _loaded(errand)
        steps = steps_of(errand, models, notes, [case])
        read: Future[ReadCase] = Future()
        read.set_result(steps.read(case))
        written = steps.write(steps.predict(read))
        seconds = time.perf_counter() - started
        return WrittenCase(mask=written.mask, record=written.record, beside=steps.beside(), seconds=seconds)


def steps_of(errand: Errand, models: Sequence[Model], notes: Recorder, cases: Sequence[Case]) -> CaseSteps:
    """The steps of these cases."""
    plan = models[0].plan
    return CaseSteps(
        models=models,
        notes=notes,
        rules=errand.rules,
        output=errand.output,
        masks_as=mask_output(cases, plan.labels, errand.output_format, errand.series),
        images=frozenset(path.resolve() for case in cases for path in case.images),
        probabilities=errand.probabilities,
        entropy=errand.entropy,
        previews=previews_of(cases, plan, errand.series) if errand.previews else None,
    )


def loaded(errand: Errand, device: torch.device) -> tuple[tuple[Model, ...], Recorder]:
    """The models of an errand, and what the records of their cases have in common."""
    models = load_models(errand.chosen, device=device, mirroring=errand.mirroring, step=errand.step, exact=errand.exact)
    rules = [rule.in_words() for rule in errand.rules.rules]
    return models, recorder(errand.chosen, models, rules, mirroring=errand.mirroring)


@lru_cache(maxsize=1)
def _loaded(errand: Errand) -> tuple[tuple[Model, ...], Recorder]:
    """Kept from case to case; another errand takes the place of the last one."""
    keep_freed_memory()
    return loaded(errand, torch.device(device_name(errand.device)))

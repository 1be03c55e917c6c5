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
from nnlite.pipeline.case_preview import previews_of
from nnlite.pipeline.case_record import CaseRecord, recorder
from nnlite.pipeline.case_steps import CaseSteps, ReadCase
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.mask_output import OutputFormat, mask_output
from nnlite.pipeline.trained_model import TrainedModel, open_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """All that a worker needs to know besides the case.

    ``command`` is another for each prediction: what workers keep in memory may be trained anew before the next one.
    """

    model: Path
    work: Path
    configuration: str | None
    folds: tuple[str, ...]
    postprocessing: bool
    output: Path
    device: str
    mirroring: bool
    step: float
    exact: bool
    resample_channels_to: str | None
    depth: int | None
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
    model = errand.model.absolute() if errand.model.exists() else errand.model  # else it is a name in the workspace
    return replace(errand, model=model, work=errand.work.absolute(), output=errand.output.absolute())


def predict_on_worker(case: Case, errand: Errand) -> WrittenCase:
    """Read, predict and write one case; errors name it."""
    with named_in_errors(f"case {case.id}"):
        started = time.perf_counter()
        steps = steps_of(errand, _opened(errand), [case])
        read: Future[ReadCase] = Future()
        read.set_result(steps.read(case))
        written = steps.write(steps.predict(read))
        seconds = time.perf_counter() - started
        beside = (*steps.beside(), *written.beside())
        return WrittenCase(mask=written.mask, record=written.record, beside=beside, seconds=seconds)


def steps_of(errand: Errand, trained: TrainedModel, cases: Sequence[Case]) -> CaseSteps:
    """The steps of these cases."""
    plan, rules = trained.models[0].plan, rules_of(errand, trained)
    if rules != trained.postprocessing:
        trained = trained.departing("--no-postprocessing")
    return CaseSteps(
        models=trained.models,
        notes=recorder(trained, rules.in_words(), mirroring=errand.mirroring),
        rules=rules,
        output=errand.output,
        masks_as=mask_output(cases, plan.labels, errand.output_format, errand.series, channel=plan.reference or 0),
        images=frozenset(path.resolve() for case in cases for path in case.images),
        probabilities=errand.probabilities,
        entropy=errand.entropy,
        previews=previews_of(cases, plan, errand.series) if errand.previews else None,
    )


def rules_of(errand: Errand, trained: TrainedModel) -> Postprocessing:
    """The rules for the masks, none where they are not wanted."""
    return trained.postprocessing if errand.postprocessing else Postprocessing()


def opened(errand: Errand, device: torch.device) -> TrainedModel:
    """The model of an errand."""
    trained = open_model(
        errand.model,
        errand.work,
        errand.configuration,
        errand.folds,
        device=device,
        mirroring=errand.mirroring,
        step=errand.step,
        exact=errand.exact,
    )
    return trained.with_reference(errand.resample_channels_to).with_depth(errand.depth)


@lru_cache(maxsize=1)
def _opened(errand: Errand) -> TrainedModel:
    """Kept from case to case; another errand takes the place of the last one."""
    keep_freed_memory()
    return opened(errand, torch.device(device_name(errand.device)))

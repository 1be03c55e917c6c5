"""Preprocess one case for all configurations that lack it: it is read once, and what they have in common made once.

A task by itself, so that it may as well be done on another machine that sees the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnlite.data.annotated import annotated_structures
from nnlite.data.channels import in_units_of, read_channels
from nnlite.data.dataset import Case
from nnlite.data.faults import named_in_errors
from nnlite.data.image import read_label
from nnlite.errors import DatasetError
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.instance_border import with_border
from nnlite.preprocessing.preprocess import NormalizedCase, normalize_case, plan_restoration, resample_case
from nnlite.preprocessing.store import CaseStore, StoredCase


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingCase:
    """A configuration that lacks a case, the folder of its cases, and the mask that its first stage predicted."""

    configuration: Configuration
    folder: Path
    first_stage: Path | None


def make_case(case: Case, plan: Plan, missing: Sequence[MissingCase]) -> None:
    """Read one case and store it for every configuration that lacks it; errors name the case."""
    with named_in_errors(f"case {case.id}"):
        _make(case, plan, missing)


def _make(case: Case, plan: Plan, missing: Sequence[MissingCase]) -> None:
    given = read_channels(case.images, reference=plan.reference)
    image = in_units_of(given, missing[0].configuration.spacing_mm, sized=plan.sized_images)
    label = None if case.label is None else _label_indices(case.label, plan, border=True)
    normalized: dict[tuple[object, ...], NormalizedCase] = {}
    stored: dict[tuple[object, ...], StoredCase] = {}
    for one in missing:
        configuration, store = one.configuration, CaseStore(one.folder)
        scheme = (configuration.normalization, configuration.use_nonzero_mask)
        if scheme not in normalized:
            spacing = image.geometry.spacing_mm
            normalized[scheme] = normalize_case(case.id, image.array, spacing, plan, configuration, label=label)
        ready = normalized[scheme]
        restoration = plan_restoration(ready, plan, configuration)
        # configurations of one spacing, as 2d and 3d often are, have the same voxels
        twin = stored.get((scheme, restoration)) if one.first_stage is None else None
        if twin is not None:
            store.share(twin)
            continue
        first_stage = None if one.first_stage is None else _label_indices(one.first_stage, plan)
        annotated = annotated_structures(plan.labels, case.annotated)
        store.write(resample_case(ready, plan, configuration, previous=first_stage), plan.labels, annotated)
        if one.first_stage is None:
            stored[scheme, restoration] = store.open(case.id)


def _label_indices(path: Path, plan: Plan, *, border: bool = False) -> np.ndarray:
    """The label indices in a file, those of the ``border`` of instances included where one is learned."""
    values = read_label(path).array[0]
    try:
        return with_border(values, plan.labels) if border else plan.labels.to_indices(values)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}; it has changed since it was planned: run nnlite plan again") from error

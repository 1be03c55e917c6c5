"""From a folder of scans to a plan: find the dataset, check every case, take its fingerprint, decide."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from nnlite.data.check import CheckReport, check_dataset
from nnlite.data.dataset import DESCRIPTION_FILE, Case, Dataset, default_name, find_dataset, with_reference
from nnlite.data.image import Image
from nnlite.data.labels import Labels
from nnlite.data.progress import Progress, silent
from nnlite.data.records import FORMAT_VERSION, from_json, write_record
from nnlite.errors import NnliteError, PlanError
from nnlite.pipeline.appearance import write_appearance
from nnlite.pipeline.dataset_source import refuse_another_source, remember_source
from nnlite.pipeline.instance_request import InstanceChoice, InstanceRequest
from nnlite.pipeline.machine import has_gpu, workers_for_files
from nnlite.pipeline.plan_request import PlanRequest, plan_request, read_plan_file
from nnlite.pipeline.plan_splits import decide_splits, fixed_splits
from nnlite.planning.appearance import Look, look
from nnlite.planning.cost import require_within_memory, shallow_networks, slow_steps
from nnlite.planning.decisions import decisions
from nnlite.planning.fingerprint import CaseFingerprint, case_fingerprint, merge, samples_per_case
from nnlite.planning.mirrored_cases import label_thumbnail, mirrored_cases
from nnlite.planning.mirroring import spares_sides, without_counterpart
from nnlite.planning.network import NOTHING_ASKED, NetworkOptions, Residual
from nnlite.planning.planner import Plan, Preset
from nnlite.planning.prior import PriorUse, Sketch, alignment, sketch
from nnlite.planning.variants import as_variant, parted, require_variant
from nnlite.workspace import RunFolder, Workspace

DEFAULT_WORK = Path("nnlite_work")

T = TypeVar("T")
Glance = tuple[Look, np.ndarray | None]
"""What a case looks like in the eyes of a check, and where its labels lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult:
    """A plan, where it lies, and what its user should know about it.

    ``trainings`` is how many a cross-validation takes: one per fold, or that of all cases where none can be held out.
    """

    plan: Plan
    path: Path
    notes: tuple[str, ...]
    trainings: int


def locate_dataset(path: Path, work: Path) -> tuple[Dataset, Workspace]:
    """Find a dataset and its workspace; an nnlite.json in the workspace stands in for one in the dataset."""
    unnamed = Workspace(root=work, dataset=default_name(path))
    dataset = find_dataset(path, description=unnamed.description)
    workspace = Workspace(root=work, dataset=dataset.name)
    refuse_another_source(dataset.root, workspace)
    return dataset, workspace


def check(
    dataset: Path,
    *,
    work: Path = DEFAULT_WORK,
    resample_channels_to: str | None = None,
    progress: Progress = silent,
) -> CheckReport[Glance]:
    """Read every case once and report all faults together; raises nothing for faulty cases.

    ``resample_channels_to`` is the channel onto whose grid the others are brought.
    """
    found, workspace = locate_dataset(dataset, work)
    return check_found(with_reference(found, resample_channels_to), workspace, progress=progress)


def check_found(found: Dataset, workspace: Workspace, *, progress: Progress = silent) -> CheckReport[Glance]:
    """Check a dataset that was found before; an ``nnlite.json`` that is missing would lie in its workspace."""
    report = check_dataset(
        found, _glance, workers=_readers(found), description_home=workspace.folder, progress=progress
    )
    return replace(report, warnings=(*report.warnings, *mirrored_cases(report.findings)))


def _readers(dataset: Dataset) -> int:
    """How many cases may be read at a time."""
    return workers_for_files([*case.images, *([case.label] if case.label else [])] for case in dataset.cases)


def plan(
    dataset: Path,
    *,
    work: Path = DEFAULT_WORK,
    device: str = "auto",
    memory_gib: float | None = None,
    preset: Preset | None = None,
    residual: Residual | None = None,
    network: NetworkOptions = NOTHING_ASKED,
    from_plan: Path | None = None,
    from_nnunet: Path | None = None,
    overrides: Sequence[str] = (),
    splits: Path | None = None,
    resample_channels_to: str | None = None,
    hu_windows: str | None = None,
    hu_masks: str | None = None,
    prior: PriorUse | None = None,
    instances: InstanceChoice | None = None,
    border_px: int | None = None,
    variant: str | None = None,
    probe: bool = True,
    progress: Progress = silent,
) -> PlanResult:
    """Check a dataset and plan its configurations for a device and its memory; all of it lies in the workspace then.

    ``device`` "auto" plans for the GPU of this machine, or where it has none for its processor; with ``memory_gib`` for
    a GPU of that size, wherever it is, and with preset "nnunet" for one of the size that nnU-Net plans for. ``preset``
    "nnunet" gives nnU-Net's own plan, None is "nnlite". ``residual`` chooses one of nnU-Net's residual encoders,
    ``network`` any architecture and what goes with it. ``from_plan`` is another plan to take all this from,
    ``from_nnunet`` a plans.json of nnU-Net v2, whose plan is then trained as it is. ``overrides`` are single decisions,
    as "3d.patch_size=96,96,96". ``splits`` is a file with folds of the user's own: nnU-Net's splits_final.json, or a
    splits.json. Channels on other grids are brought to that of the channel ``resample_channels_to``, where one is
    named, in training and prediction, too. ``hu_windows`` ("lung,-160:240") and ``hu_masks`` ("200:") are what each CT
    channel brings along. ``prior`` "channel" or "product" uses an atlas of the training cases' labels. ``instances``
    tells single objects of the label apart: by a "border" class where another one is near, by a "rim" around each (both
    of ``border_px`` pixels), at necks of the plain mask ("distance"), or "none"; None follows the dataset's
    nnlite.json. ``probe`` measures a training step of each configuration where this machine has the device that is
    planned for; a GPU's patch and batch follow it. A ``variant`` is planned beside the dataset's plan, its
    configurations are called "3d@variant". Raises
    ``DatasetError`` with all faults if any case cannot be used.
    """
    found, workspace = locate_dataset(dataset, work)
    found = with_reference(found, resample_channels_to)
    # A wrong request is refused before every case is read.
    variant = None if variant is None else require_variant(variant)
    request = plan_request(
        device=device,
        memory_gib=memory_gib,
        preset=preset,
        residual=residual,
        network=network,
        from_plan=from_plan,
        from_nnunet=from_nnunet,
        overrides=overrides,
        hu_windows=hu_windows,
        hu_masks=hu_masks,
        prior=prior,
        instances=InstanceRequest(choice=instances, border_px=border_px),
    )
    if found.channels:
        request.require_channels(found.channels)
    fixed = fixed_splits(found, workspace, splits)
    ignore = None if found.labels is None else found.labels.ignore
    report = check_dataset(
        found,
        partial(_visit, samples=samples_per_case(len(found.cases)), ignore=ignore),
        workers=_readers(found),
        description_home=workspace.folder,
        progress=progress,
    )
    report.raise_if_faulty()
    fingerprint = merge(measured for measured, _, _ in report.findings.values())
    labels = report.dataset.labels
    assert labels is not None, "a checked dataset has a label table"
    decide = partial(request.decide, fingerprint, dataset=found.name, channels=report.dataset.channels, labels=labels)
    decided, remarks = _measured(decide, request) if probe else (decide(), ())
    decided = as_variant(replace(decided, reference_channel=found.reference_channel), variant)
    decided, about_prior = _with_alignment(decided, [seen for _, _, seen in report.findings.values()])
    folds, about_folds = decide_splits(report, workspace, fixed)
    notes = (
        *report.notes,
        *_unnamed_labels(found, labels),
        *_made_channels(decided),
        *about_prior,
        *([] if request.follows else _no_gpu(device, memory_gib, decided)),
        *_one_sided(decided),
        *slow_steps(decided),
        *shallow_networks(decided),
        *remarks,
        *_runs_of_other_plans(workspace, decided, variant),
    )
    remember_source(found, workspace, variant)
    write_record(workspace.fingerprint, fingerprint)
    write_appearance(workspace, (seen for _, seen, _ in report.findings.values()))
    write_record(workspace.splits, folds)
    path = workspace.plan_of(variant)
    write_record(path, decided)
    notes = (*notes, *about_folds, *_suspicious(report, dataset))
    return PlanResult(plan=decided, path=path, notes=notes, trainings=max(1, len(folds.folds)))


def _measured(decide: Callable[..., Plan], request: PlanRequest) -> tuple[Plan, tuple[str, ...]]:
    """The plan with what its steps cost here, if this machine has its device; and what could not be measured.

    PlanError where a step whose size is settled takes more than the plan's memory.
    """
    decided = decide()
    if decided.device == "cuda" and not has_gpu():
        return decided, ()
    from nnlite.pipeline.measure_plan import measure_here, search, with_measurements

    if request.leaves_size_open:
        return search(lambda corrections: decide(corrections=corrections), measure_here), ()
    measured, remarks = with_measurements(decided, measure_here)
    require_within_memory(measured)  # whoever reads the plan goes by what was measured, too
    return measured, remarks


def read_plan(workspace: Workspace, variant: str | None = None) -> Plan:
    """The plan of the dataset, or of a variant; ``PlanError`` says how to make one where there is none.

    A variant without a plan of its own follows the dataset's.
    """
    if not workspace.plan_of(variant).exists():
        if variant is not None:
            return as_variant(read_plan(workspace), variant)
        raise PlanError(
            f"{workspace.dataset} has no plan in {workspace.root}; run nnlite plan first, "
            "or say with --work where the workspace lies"
        )
    plan = read_plan_file(workspace.plan_of(variant))
    require_within_memory(plan)  # it may have been edited by hand
    return plan


def _visit(
    case: Case, image: Image, label: np.ndarray | None, *, samples: int, ignore: int | None
) -> tuple[CaseFingerprint, Look, Sketch]:
    """What one case adds to the fingerprint, to what is known of the images' looks, and of where labels lie."""
    assert label is not None, "cases for training have labels"
    spacing = image.geometry.spacing_mm
    fingerprint = case_fingerprint(case.id, image.array, label, spacing, samples=samples, ignore=ignore)
    return fingerprint, look(case.id, image), sketch(label, spacing)


def _with_alignment(decided: Plan, sketches: Sequence[Sketch]) -> tuple[Plan, tuple[str, ...]]:
    """The plan with what speaks for or against its prior, and a note of that."""
    if decided.prior is None:
        return decided, ()
    found = alignment(sketches, decided.labels)
    verdict = "the images are aligned" if found.aligned else "warning: the images are NOT aligned, so it may mislead"
    reason = f"{decided.prior.use}: asked for; {verdict}: {found.in_words()}"
    remedy = "" if found.aligned else "; to plan without it, leave --prior out"
    return replace(decided, reasons={**decided.reasons, "prior": reason}), (f"prior {reason}{remedy}",)


def _suspicious(report: CheckReport[T], dataset: Path) -> tuple[str, ...]:
    """A note where the check has warnings: it is the one that tells them."""
    if not report.warnings:
        return ()
    number = "1 warning" if len(report.warnings) == 1 else f"{len(report.warnings)} warnings"
    return (f"the dataset gives rise to {number}: nnlite check {dataset} tells",)


def _glance(case: Case, image: Image, label: np.ndarray | None) -> Glance:
    return look(case.id, image), None if label is None else label_thumbnail(label)


def _no_gpu(device: str, memory_gib: float | None, decided: Plan) -> tuple[str, ...]:
    """A note on what is planned for where nobody said it and this machine has no GPU."""
    if device != "auto" or memory_gib is not None or has_gpu():
        return ()
    if decided.device == "cpu":
        return ("there is no GPU here: planned for the processor; for a GPU elsewhere, add --gpu-memory GB, its size",)
    return (
        f"there is no GPU here: planned for one of {decided.memory_gib:g} GiB (another with --gpu-memory); "
        "to train on this machine, plan with --device cpu",
    )


def _unnamed_labels(found: Dataset, labels: Labels) -> tuple[str, ...]:
    """A note where nothing says what the values of the label maps are called."""
    if found.labels is not None:
        return ()
    return (f"labels have no names yet ({labels.in_words()}); name them in {found.root / DESCRIPTION_FILE}",)


def _made_channels(decided: Plan) -> tuple[str, ...]:
    """A note that tells which channels a network sees besides those of the files."""
    if not decided.hu_channels:
        return ()
    return (f"networks also see {', '.join(made.in_words() for made in decided.hu_channels)}",)


def _one_sided(decided: Plan) -> tuple[str, ...]:
    """A note where images are not mirrored left to right because of what the labels are called."""
    spared = [name for name, one in decided.configurations.items() if spares_sides(one, decided.transpose)]
    if not (spared and decided.labels.one_sided):
        return ()
    return (f"{', '.join(spared)}: images are not mirrored left to right: {without_counterpart(decided.labels)}",)


def _runs_of_other_plans(workspace: Workspace, decided: Plan, variant: str | None) -> tuple[str, ...]:
    """A note where earlier runs were trained otherwise than new ones by this plan will be.

    Besides runs of its own, the plan of the dataset has those of all variants for which nothing was decided.
    """
    before = _planned_before(workspace, variant)
    names = []
    for run in workspace.existing_runs():
        own = parted(run.configuration)[1]
        if own == variant or (variant is None and not workspace.plan_of(own).exists()):
            followed = _followed(run) or before
            if followed is None or _differ(followed, decided, run.configuration):
                names.append(f"{run.configuration} {run.fold}")
    if not names:
        return ()
    return (f"{', '.join(names)} followed an earlier plan; they keep it, new runs follow this one",)


def _followed(run: RunFolder) -> Plan | None:
    """The plan that a run keeps, None where it cannot be read; as a record of its whole config it would load torch."""
    try:
        plan = json.loads(run.config.read_text(encoding="utf-8"))["plan"]
        return from_json(json.dumps({"format_version": FORMAT_VERSION, **plan}), Plan, source=str(run.config))
    except (OSError, ValueError, KeyError, TypeError, NnliteError):
        return None


def _planned_before(workspace: Workspace, variant: str | None) -> Plan | None:
    """The plan that is about to be replaced; None where there is none that can still be read."""
    try:
        return read_plan(workspace, variant)
    except PlanError:
        return None


def _differ(one: Plan, other: Plan, name: str) -> bool:
    """Whether two plans decide otherwise of a configuration, under whatever variant's name they have it, if they do."""
    plans = (as_variant(plan, parted(name)[1]) for plan in (one, other))
    first, second = (decisions(plan, name) if name in plan.configurations else None for plan in plans)
    return first != second

"""Take nnU-Net's own plan for a dataset that is to be trained in nnlite: same patch, batch, spacing, network.

The counterpart of ``planning/transfer.py`` for plans.json of nnU-Net v2, as it lies in nnUNet_preprocessed or beside a
trained model. Intensities for normalisation are those in the plans: nnU-Net itself trains with them, so that the two
can be compared, and another dataset's weights stay of use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any, get_args

from nnlite.data.labels import Labels
from nnlite.errors import PlanError
from nnlite.interop.nnunet_plan import plan_from_nnunet, read_json
from nnlite.planning.configurations import ConfigurationName
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.nnunet import estimated_gib
from nnlite.planning.planner import Plan
from nnlite.planning.transfer import transfer

NAMES = ("plans.json", "nnUNetPlans.json")  # in a folder: of a trained model, and of what nnU-Net has preprocessed
OWN = ("median_shape", "mirror_axes")  # decided for the dataset at hand
ORDER = get_args(ConfigurationName)  # in which nnlite's own plans have them
SAME_SPACING = 0.01  # relative; files round spacings to a few digits


@dataclass(frozen=True, slots=True, kw_only=True)
class NnunetPlans:
    """What nnU-Net's plans file holds, and the dataset.json beside it, None where there is none."""

    path: Path
    plans: dict[str, Any]
    dataset: dict[str, Any] | None


def read_nnunet_plans(path: Path) -> NnunetPlans:
    """Read a plans file of nnU-Net v2, or the one in a folder; PlanError if it is none, or cannot be represented."""
    file = next((path / name for name in NAMES if (path / name).exists()), path / NAMES[0]) if path.is_dir() else path
    plans = read_json(file)
    if "format_version" in plans:
        raise PlanError(f"{file} is a plan of nnlite's own; follow it with --from instead of --from-nnunet")
    beside = file.parent / "dataset.json"
    found = NnunetPlans(
        path=file, plans=plans, dataset=read_json(beside) if beside.exists() and beside != file else None
    )
    try:
        plan_from_nnunet(found.plans, found.dataset or _described(("image",) * _channel_count(found.plans), ()))
    except PlanError as problem:
        raise PlanError(f"{file}: {problem}") from problem
    return found


def transfer_nnunet(
    given: NnunetPlans, fingerprint: Fingerprint, *, dataset: str, channels: Sequence[str], labels: Labels
) -> Plan:
    """nnU-Net's plan for the dataset of ``fingerprint``.

    PlanError if the dataset has other channels or labels than the dataset.json beside the plans, or another number of
    channels than the plans; if its images are flat and the plans have no 2d configuration.
    """
    _require_same_dataset(given, dataset, channels, labels)
    # names as the dataset has them: those in dataset.json were compared, plans.json has none
    plan = plan_from_nnunet(given.plans, _described(channels, labels.foreground))
    plan = replace(_with_enough_memory(plan), transpose=_transpose(given, plan, fingerprint))
    made = transfer(plan, fingerprint, dataset=dataset, channels=channels, labels=labels)
    origin = f"nnU-Net's {given.path.name} for {plan.dataset}"
    configurations = {
        name: replace(one, reasons={"all": f"as in {origin}", **{key: one.reasons[key] for key in OWN}})
        for name, one in sorted(made.configurations.items(), key=lambda named: ORDER.index(named[1].name))
    }
    reasons = {
        "planner": f"as in {origin}",
        "intensities": f"as in {origin}: nnU-Net normalises with these, not with those of the cases at hand",
        "memory_gib": "plans.json does not say for which GPU it was made; this is what nnU-Net's rule counts for it",
        **({} if made.transpose == _given_transpose(given) else {"transpose": _turned(given, made)}),
        **{name: why for name, why in made.reasons.items() if name not in ("planner", "memory_gib")},
    }
    return replace(made, configurations=configurations, reasons=reasons)


def _require_same_dataset(given: NnunetPlans, dataset: str, channels: Sequence[str], labels: Labels) -> None:
    """PlanError with everything in which the dataset is not the one that the plans are for."""
    if faults := list(_differences(given, channels, labels)):
        raise PlanError(f"{given.path} does not fit {dataset}: {'; '.join(faults)}")


def _differences(given: NnunetPlans, channels: Sequence[str], labels: Labels) -> Iterator[str]:
    count = _channel_count(given.plans)
    if len(channels) != count:
        yield (
            f"the plans normalise {count} channel{'s' * (count != 1)}, and it has {len(channels)} "
            f"({', '.join(channels)}): take plans that were made for these channels"
        )
    if given.dataset is None:
        return
    theirs = plan_from_nnunet(given.plans, given.dataset)
    if len(channels) == count and _lower(channels) != _lower(theirs.channels):
        yield (
            f"the dataset.json beside the plans has the channels {', '.join(theirs.channels)}, and it has "
            f'{", ".join(channels)}: both need the same in the same order (correct "channels" in nnlite.json if only '
            "the names differ)"
        )
    if labels.names != theirs.labels.names:
        yield (
            f"the dataset.json beside the plans has the labels {', '.join(theirs.labels.names)}, and it has "
            f'{", ".join(labels.names)}: correct "labels" in nnlite.json if only the names differ, or, to train these '
            "labels with that plan, copy the plans to a folder without dataset.json"
        )


def _lower(names: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in names]


def _described(channels: Sequence[str], foreground: Sequence[str]) -> dict[str, Any]:
    """A dataset.json that says no more than which channels and labels there are."""
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, **{name: number for number, name in enumerate(foreground or ("any",), start=1)}},
    }


def _channel_count(plans: Mapping[str, Any]) -> int:
    for key in ("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"):
        if isinstance(plans.get(key), dict) and plans[key]:
            return len(plans[key])
    raise PlanError(
        "these are no plans of nnU-Net v2: there is no 'foreground_intensity_properties_per_channel'; give the "
        "nnUNetPlans.json in nnUNet_preprocessed/DATASET, or the plans.json beside a trained model"
    )


def _with_enough_memory(plan: Plan) -> Plan:
    """The plan for a GPU that holds it by nnU-Net's own rule: the file does not tell which one it was made for."""
    assert plan.memory_gib is not None, "nnU-Net plans for GPUs"
    needed = (
        estimated_gib(one.topology, one.patch_size, one.batch_size, labels=plan.labels.count, planner=plan.planner)
        for one in plan.configurations.values()
    )
    return replace(plan, memory_gib=max(plan.memory_gib, math.ceil(10 * max(needed)) / 10))


def _given_transpose(given: NnunetPlans) -> tuple[int, int, int]:
    z, y, x = (int(axis) for axis in given.plans["transpose_forward"])
    return z, y, x


def _transpose(given: NnunetPlans, plan: Plan, fingerprint: Fingerprint) -> tuple[int, int, int]:
    """The plan's order of axes among nnlite's, in which every image has the same orientation.

    nnU-Net orders the axes of the files. Where files are stored in another order than nnlite's, another order gives the
    voxels that nnU-Net has seen: the one in which the median spacing is that of the plans.
    """
    expected = given.plans.get("original_median_spacing_after_transp")
    if not expected:
        return plan.transpose
    spacing = [median(steps[axis] for steps in fingerprint.spacings_mm) for axis in range(3)]
    orders = [plan.transpose, *permutations(range(3))]
    for order in orders:
        if all(abs(spacing[axis] / step - 1) < SAME_SPACING for axis, step in zip(order, expected, strict=True)):
            return order[0], order[1], order[2]
    return plan.transpose  # another dataset, with other spacings


def _turned(given: NnunetPlans, made: Plan) -> str:
    return (
        f"{made.transpose}: with it the median spacing is that of the plans; nnU-Net's {_given_transpose(given)} is "
        "for the order of axes in the files, and nnlite reads all images in one"
    )

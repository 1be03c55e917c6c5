"""Take another dataset's plan for this one: the same spacing, normalisation, network, patch and batch.

For weights that are to travel between datasets, and for comparing datasets under one plan. Numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnlite.data.geometry import has_sizes
from nnlite.data.labels import Labels
from nnlite.errors import PlanError
from nnlite.planning.configurations import Configuration
from nnlite.planning.cost import correction, input_channels
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.mirroring import decide_mirroring, without_sides
from nnlite.planning.planner import Plan, require_usable
from nnlite.planning.spacing import flat_axes, median_resampled_shape, voxels


def transfer(plan: Plan, fingerprint: Fingerprint, *, dataset: str, channels: Sequence[str], labels: Labels) -> Plan:
    """``plan`` for the dataset of ``fingerprint``, which has the same channels in the same order, and its own labels.

    Intensities for normalisation stay the other dataset's: a network is used to them. PlanError if channels disagree,
    or if the images are flat and the plan has no configuration "2d".
    """
    require_usable(fingerprint, channels, labels)
    _require_same_channels(plan, dataset, channels)
    # A dataset's own plan, edited and checked again, keeps its reasons as they are.
    origin = "" if plan.dataset == dataset else f"taken from the plan of {plan.dataset}: "
    shape = {name: _median_shape(plan, one, fingerprint) for name, one in plan.configurations.items()}
    flat = flat_axes(fingerprint)
    if flat and flat != (plan.transpose[0],):
        raise PlanError(
            f"the images of {dataset} are flat along {', '.join('zyx'[axis] for axis in flat)}, and the plan of "
            f"{plan.dataset} looks at slices along {'zyx'[plan.transpose[0]]}; take a plan made for flat images"
        )
    dropped = [name for name in plan.configurations if flat and name != "2d"]
    configurations = {
        name: _mirrored(
            replace(
                one,
                median_shape=shape[name],
                measured=None,  # a step over other channels and labels costs something else, in proportion
                correction=correction(plan, one),
                reasons={
                    **{key: f"{origin}{reason}" for key, reason in one.reasons.items()},
                    "median_shape": f"{voxels(shape[name])}: median of the cases resampled to this spacing",
                },
            ),
            plan,
            labels,
        )
        for name, one in plan.configurations.items()
        if name not in dropped
    }
    if not configurations:
        raise PlanError(
            f"{dataset} has flat images, and the plan of {plan.dataset} has no configuration 2d, only "
            f"{', '.join(plan.configurations)}; take a plan made for flat images"
        )
    made = replace(
        plan,
        dataset=dataset,
        labels=labels,
        training_cases=len(fingerprint.spacings_mm),
        sized_images=any(map(has_sizes, fingerprint.spacings_mm)),
        configurations=configurations,
        reasons={
            **{key: f"{origin}{reason}" for key, reason in plan.reasons.items()},
            **dict.fromkeys(dropped, f"the images of {dataset} are flat"),
        },
    )
    return replace(made, configurations={name: _seeing_all(made, one) for name, one in made.configurations.items()})


def _seeing_all(plan: Plan, configuration: Configuration) -> Configuration:
    """The configuration with encoders for all channels there are: those of labels share the last one."""
    topology = configuration.topology
    if not topology.encoders:
        return configuration
    *others, last = topology.encoders
    encoders = (*others, last + input_channels(plan, configuration) - sum(topology.encoders))
    return replace(configuration, topology=replace(topology, encoders=encoders))


def _mirrored(configuration: Configuration, plan: Plan, labels: Labels) -> Configuration:
    """The configuration with the axes to mirror for these labels; axes that were chosen before stay."""
    if plan.prior is not None and configuration.mirror_axes is None:
        configuration = without_sides(configuration, labels, plan.transpose)
    return decide_mirroring(configuration, labels, plan.transpose)


def _median_shape(plan: Plan, configuration: Configuration, fingerprint: Fingerprint) -> tuple[float, ...]:
    """The median image of the dataset at the configuration's spacing, in the plan's order of the axes."""
    ndim = configuration.topology.ndim
    target = [1.0, 1.0, 1.0]  # slices of a 2D network keep their distance: along that axis any spacing does
    for axis, step in zip(plan.transpose[3 - ndim :], configuration.spacing_mm, strict=True):
        target[axis] = step
    shape = median_resampled_shape(fingerprint, target)
    return tuple(shape[axis] for axis in plan.transpose[3 - ndim :])


def _require_same_channels(plan: Plan, dataset: str, channels: Sequence[str]) -> None:
    if [name.strip().lower() for name in channels] != [name.strip().lower() for name in plan.channels]:
        raise PlanError(
            f"channels disagree: {dataset} has {', '.join(channels)}, the plan of {plan.dataset} is for "
            f"{', '.join(plan.channels)}; both need the same channels in the same order (if only the names differ, "
            'correct "channels" in nnlite.json)'
        )

"""Change single decisions of a plan by hand: ``3d.patch_size=96,96,96``.

Numbers in, numbers out. Whatever follows from a changed decision is decided again (a patch or a spacing brings the
network that belongs to it); everything else stays as it was planned. Kernels and checkpointing are changed in the
network that is there, which may be nnU-Net's or edited by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from nnlite.errors import PlanError, UsageError
from nnlite.planning.configurations import Configuration, NormalizationScheme
from nnlite.planning.cpu import NARROW, WIDE
from nnlite.planning.network import KERNELS, NetworkChoice, choice_of
from nnlite.planning.normalization import mask_reason, needs_mask
from nnlite.planning.patch import pooling_reason, require_pooling
from nnlite.planning.planner import Device, Plan
from nnlite.planning.spacing import millimetres, voxels
from nnlite.planning.topology import Topology

EXAMPLE = "3d.patch_size=96,96,96"
FOLLOWS = {"3d": "3d-cascade"}  # a cascade's second stage is the network of full resolution
NETWORK = {"kernel", "checkpointing"}  # what is decided of the network itself
SIZE = {"spacing_mm", "patch_size", "batch_size", *NETWORK}  # what the memory of a step depends on
BEFORE = "as planned before what was set by hand: "  # whatever follows holds no longer, at least not its numbers
SIZED = ("patch_size", "batch_size", "epochs", "batch_dice")  # whose reasons tell of a configuration's sizes
LOW = ("3d-lowres", "3d-cascade")  # there, or missing, because of what a patch sees at full resolution
TOLD_OF = {"patch_size": LOW, "spacing_mm": (*LOW, "transpose")}  # whose reasons tell of these sizes of "3d"
CPU_WIDTHS = dict((WIDE, NARROW))  # features at most, by those at full resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One decision taken by hand; ``text`` is how it was written."""

    configuration: str
    key: str
    value: Any
    text: str


def parse_override(text: str) -> Override:
    """A decision as it is typed; UsageError says how to write it.

    >>> parse_override("3d.patch_size=96,96,96").value
    (96, 96, 96)
    """
    place, equals, value = text.partition("=")
    name, dot, key = place.strip().partition(".")
    if not (equals and dot and value.strip()):
        raise UsageError(f'"{text}" sets nothing; write CONFIG.KEY=VALUE, for example {EXAMPLE}')
    if key not in _READ:
        raise UsageError(f'"{text}": there is no key "{key}" to set; KEY is one of {", ".join(_READ)}')
    read, form = _READ[key]
    try:
        return Override(configuration=name, key=key, value=read(value.strip()), text=text)
    except (ValueError, KeyError):
        raise UsageError(f'"{text}": {key} must be {form}') from None


def override(plan: Plan, overrides: Iterable[Override], *, relative_size: float = 1.0) -> Plan:
    """The plan with these decisions, each with its reason; PlanError for values that cannot be trained.

    What is set for "3d" is set for "3d-cascade", too, unless that has a value of its own; of two values for one key the
    later counts. ``relative_size`` is what cropping zeros away leaves of the dataset's median image. The memory is not
    judged here but by ``cost.py``.
    """
    configurations = dict(plan.configurations)
    by_name: dict[str, dict[str, Override]] = {}
    for change in overrides:
        plan.configuration(change.configuration)  # UsageError unless it is planned
        by_name.setdefault(change.configuration, {})[change.key] = change
    for name, follower in FOLLOWS.items():
        if name in by_name and follower in configurations:
            by_name[follower] = {**by_name[name], **by_name.get(follower, {})}
    for name, changes in by_name.items():
        configurations[name] = _changed(configurations[name], changes, plan, relative_size)
    outdated = {told for key in by_name.get("3d", {}) for told in TOLD_OF.get(key, ())}
    if outdated and (low := configurations.get("3d-lowres")):
        configurations[low.name] = replace(low, reasons=_as_before(low.reasons, {"spacing_mm"}))
    return replace(plan, configurations=configurations, reasons=_as_before(plan.reasons, outdated))


def _as_before(reasons: Mapping[str, str], outdated: Collection[str]) -> dict[str, str]:
    """The reasons, where those that are outdated say so, and what was itself set by hand does not."""
    return {
        key: f"{BEFORE}{why}" if key in outdated and "set by hand" not in why else why for key, why in reasons.items()
    }


def _changed(
    configuration: Configuration, changes: Mapping[str, Override], plan: Plan, relative_size: float
) -> Configuration:
    values: dict[str, Any] = {key: change.value for key, change in changes.items()}
    reasons = {key: f"set by hand: {change.text}" for key, change in changes.items()}
    ndim, channels = configuration.topology.ndim, len(configuration.normalization)
    for key, change in changes.items():
        entries = {"spacing_mm": ndim, "patch_size": ndim, "normalization": channels}.get(key)
        if entries is not None and len(change.value) != entries:
            raise PlanError(f"{change.text}: {key} of {configuration.name} needs {entries} entries")
    if "normalization" in values:
        schemes = values["normalization"]
        values["use_nonzero_mask"] = _masks(configuration, schemes, relative_size)
        planned, why = configuration.reasons.get("use_nonzero_mask", ""), mask_reason(relative_size)
        if (
            schemes != configuration.normalization and why not in planned
        ):  # the plan that is followed is of other images
            reasons["use_nonzero_mask"] = f"{planned}; where the scheme is set by hand: {why}" if planned else why
    if "mirror_axes" in values:
        values["mirror_axes"] = _axes(changes["mirror_axes"], configuration, plan.transpose)
    spacing = values.get("spacing_mm", configuration.spacing_mm)
    if "spacing_mm" in values:
        sizes = zip(configuration.spacing_mm, spacing, configuration.median_shape, strict=True)
        values["median_shape"] = tuple(max(1.0, float(round(old / new * length))) for old, new, length in sizes)
        reasons["median_shape"] = f"{voxels(values['median_shape'])}: the planned one at the spacing set by hand"
    asked = {key: values.pop(key) for key in NETWORK & values.keys()}
    patch = values.get("patch_size", configuration.patch_size)
    kept = _adapted(configuration.topology, **asked)
    # without padding, a wider kernel may have no answer for the patch that is there
    if reasons.keys() & {"spacing_mm", "patch_size"} or kept.fitting_size(patch) != tuple(patch):
        network = replace(choice_of(configuration.topology), **asked)
        values["topology"] = _topology(configuration, network, spacing, patch, plan.device)
        reasons["topology"] = f"planned for what was set by hand; {pooling_reason(values['topology'])}"
    elif asked:
        values["topology"] = kept
    before = _as_before(configuration.reasons, SIZED if changes.keys() & SIZE else ())
    return replace(configuration, **values, reasons={**before, **reasons})


def _masks(
    configuration: Configuration, schemes: Sequence[NormalizationScheme], relative_size: float
) -> tuple[bool, ...]:
    """The masks that belong to other schemes; a channel that keeps its scheme keeps its mask, wherever that is from."""
    planned = zip(configuration.normalization, configuration.use_nonzero_mask, schemes, strict=True)
    return tuple(mask if was == scheme else needs_mask(scheme, relative_size) for was, mask, scheme in planned)


def _adapted(topology: Topology, *, kernel: int | None = None, checkpointing: bool | None = None) -> Topology:
    """The same network with what is set of it; kernels stay flat where they are."""
    if kernel is not None:
        kernels = tuple(tuple(size if size == 1 else kernel for size in axes) for axes in topology.kernels)
        topology = replace(topology, kernels=kernels)
    return topology if checkpointing is None else replace(topology, checkpointing=checkpointing)


def _topology(
    configuration: Configuration,
    network: NetworkChoice,
    spacing_mm: Sequence[float],
    patch_size: Sequence[int],
    device: Device,
) -> Topology:
    """The network of a patch, of the width that was planned; PlanError unless the patch is divisible by its pooling."""
    features = configuration.topology.features[0]
    topology, padded = network.topology(
        spacing_mm,
        patch_size,
        channels=sum(configuration.topology.encoders) or None,
        base_features=features,
        max_features=CPU_WIDTHS.get(features) if device == "cpu" else None,
    )
    if padded != tuple(patch_size):
        fault = f"is not divisible by {voxels(topology.divisor)}, what"
        if any(topology.margin):
            fault = "is none of the sizes that"
        raise PlanError(
            f"{configuration.name}: patch_size {voxels(patch_size)} {fault} the network of {topology.stages} stages "
            f"at {millimetres(spacing_mm)} asks for; {voxels(padded)} is: "
            f"--set {configuration.name}.patch_size={','.join(map(str, padded))}"
        )
    require_pooling(topology, patch_size, spacing_mm)
    return topology


def _axes(change: Override, configuration: Configuration, transpose: Sequence[int]) -> tuple[int, ...]:
    """Axes of the patch, by their number in it or by the name that they have in images."""
    names = ["zyx"[axis] for axis in transpose[3 - configuration.topology.ndim :]]
    axes = {names.index(axis) if axis in names else axis for axis in change.value}
    if unknown := axes - set(range(len(names))):
        raise PlanError(
            f"{change.text}: patches of {configuration.name} have the axes {', '.join(names)} "
            f"(0 to {len(names) - 1}), not {', '.join(map(str, unknown))}"
        )
    return tuple(sorted(axes))


def _axis(text: str) -> str | int:
    return text if text in ("z", "y", "x") else int(text)


def _positive(number: float) -> float:
    if not 0 < number < math.inf:
        raise ValueError(f"{number} is not positive")
    return number


def _yes_or_no(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _kernel(text: str) -> int:
    if int(text) not in KERNELS:
        raise ValueError(f"{text} is no width of a kernel")
    return int(text)


def _scheme(name: str) -> NormalizationScheme:
    if name not in get_args(NormalizationScheme):
        raise ValueError(f"{name} is no scheme")
    return cast("NormalizationScheme", name)


def _each(read: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(read(part.strip()) for part in text.split(","))


_READ: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "spacing_mm": (_each(lambda text: _positive(float(text))), "positive numbers as 3,0.8,0.8"),
    "patch_size": (_each(lambda text: _positive(int(text))), "positive whole numbers as 96,96,96"),
    "batch_size": (lambda text: _positive(int(text)), "a positive whole number"),
    "mirror_axes": (lambda text: () if text == "none" else _each(_axis)(text), "axes as z,y or 0,1, or none"),
    "batch_dice": (_yes_or_no, "true or false"),
    "kernel": (_kernel, f"one of {', '.join(map(str, KERNELS))}"),
    "checkpointing": (_yes_or_no, "true or false"),
    "normalization": (_each(_scheme), f"per channel one of {', '.join(get_args(NormalizationScheme))}"),
}
"""What can be set: how its text is read, and what it must look like."""

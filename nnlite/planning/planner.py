"""Decide how a dataset is to be segmented: from its fingerprint to a plan in which every decision has its reason.

Numbers in, numbers out: no torch, no files, milliseconds. The rules are those of nnU-Net (Isensee et al., Nature
Methods 18, 203-211, 2021), whose plans preset "nnunet" reproduces exactly (``nnunet.py``); ``gpu.py`` and ``cpu.py``
are nnlite's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from nnlite.data.geometry import has_sizes
from nnlite.data.labels import Labels
from nnlite.data.records import record
from nnlite.errors import PlanError, UsageError
from nnlite.planning.configurations import Configuration, ConfigurationName
from nnlite.planning.cpu import fit_cpu
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties
from nnlite.planning.gpu import fit_gpu, require_memory
from nnlite.planning.hu_channels import HuChannel, HuRange, hu_channels
from nnlite.planning.mirroring import decide_mirroring, without_sides
from nnlite.planning.network import NetworkChoice
from nnlite.planning.nnunet import MEMORY_REFERENCES, Planner, fit_nnunet
from nnlite.planning.normalization import mask_reason, needs_mask, normalization_scheme
from nnlite.planning.patch import Fit, PatchFit
from nnlite.planning.prior import Prior
from nnlite.planning.spacing import (
    coarser_spacings,
    coarsest_axis_first,
    flat_axes,
    median_resampled_shape,
    millimetres,
    target_spacing,
    voxels,
)

Device = Literal["cuda", "cpu"]
Preset = Literal["nnlite", "nnunet"]

LOW_RESOLUTION_BELOW = 0.25  # of the median image: a patch that sees less lacks context
LOW_RESOLUTION_SAVES = 2  # times fewer voxels, or a second resolution is not worth its training
LITTLE_CONTEXT = "over the whole batch: a patch sees little of an image and often lacks a structure"


@record
class Plan:
    """All that was decided for a dataset, and why.

    ``transpose``: axis i of everything in ``configurations`` is axis ``transpose[i]`` of the canonical image (z, y, x).
    ``reasons`` also tells why a configuration is missing. ``memory_gib`` is None for a CPU. Channels on other grids are
    resampled onto that of the ``reference_channel``; None where all are on one. ``channels`` are those of the files;
    ``hu_channels`` are made of them. ``prior`` tells how an atlas of the labels is used, None for not at all.
    ``sized_images`` is False where all images have voxels of 1 mm, as pictures that state no size do: then the size
    that a new picture states does not count, whatever the spacing of a configuration.
    """

    dataset: str
    device: Device
    planner: Planner
    memory_gib: float | None
    transpose: tuple[int, int, int]
    channels: tuple[str, ...]
    labels: Labels
    intensities: tuple[IntensityProperties, ...]
    training_cases: int
    configurations: dict[str, Configuration]
    reasons: dict[str, str]
    preset: Preset = "nnlite"
    network: NetworkChoice = NetworkChoice()
    reference_channel: str | None = None
    hu_channels: tuple[HuChannel, ...] = ()
    prior: Prior | None = None
    sized_images: bool = True

    def __post_init__(self) -> None:
        if sorted(self.transpose) != [0, 1, 2]:
            raise PlanError(f"plan: transpose {self.transpose} must hold 0, 1 and 2 once each")
        if (self.device == "cuda") != (self.memory_gib is not None):
            raise PlanError(f"plan: memory_gib is {self.memory_gib} for {self.device}; a GPU has it, a CPU's is null")
        if self.memory_gib is not None:
            require_memory(self.memory_gib)
        if self.reference_channel not in (None, *self.channels):
            there = ", ".join(self.channels)
            raise PlanError(f"plan: reference_channel {self.reference_channel} is none of the channels {there}")
        if len(self.channels) != len(self.intensities):
            raise PlanError(f"plan: {len(self.channels)} channels but {len(self.intensities)} intensities")
        for made in self.hu_channels:
            made.scan_among(self.channels)  # raises where it is made of none of them
        for key, configuration in self.configurations.items():
            if key != configuration.name:
                raise PlanError(f"plan: configurations.{key} is named {configuration.name}; the two must agree")
            if len(configuration.normalization) != len(self.channels):
                raise PlanError(
                    f"plan: configurations.{key}.normalization has {len(configuration.normalization)} entries for "
                    f"{len(self.channels)} channels"
                )
            if configuration.previous_stage not in (None, *self.configurations):
                raise PlanError(
                    f"plan: configurations.{key}.previous_stage {configuration.previous_stage} is not planned"
                )

    @property
    def reference(self) -> int | None:
        """The place of the reference channel among the channels."""
        return None if self.reference_channel is None else self.channels.index(self.reference_channel)

    @property
    def image_channels(self) -> tuple[str, ...]:
        """The channels of a preprocessed image: those of the files, and those that are made of them."""
        return (*self.channels, *(made.name for made in self.hu_channels))

    def configuration(self, name: str) -> Configuration:
        """The configuration of that name; UsageError names those there are, and why this one is missing."""
        if name in self.configurations:
            return self.configurations[name]
        planned = ", ".join(self.configurations)
        if name in self.reasons:
            raise UsageError(f"{self.dataset} has no configuration {name}: {self.reasons[name]}; there are {planned}")
        raise UsageError(f"{name!r} is not a configuration of {self.dataset}; there are {planned}")


def make_plan(
    fingerprint: Fingerprint,
    *,
    dataset: str,
    channels: Sequence[str],
    labels: Labels,
    device: Device = "cuda",
    memory_gib: float | None = None,
    planner: Planner = "plain",
    preset: Preset = "nnlite",
    network: NetworkChoice | None = None,
    corrections: Mapping[int, float] | None = None,
    hu_ranges: Sequence[HuRange] = (),
    prior: Prior | None = None,
) -> Plan:
    """Plan all configurations that the dataset calls for.

    ``memory_gib`` is the GPU's, None for what the planner was made for (8, 8, 24 and 40 GiB); a CPU's plan has none.
    ``preset`` "nnunet" gives nnU-Net's plan, for GPUs only. ``network`` of None is the planner's own. ``corrections``,
    by number of axes, is measured over predicted memory, for preset "nnlite" on a GPU that was probed. ``hu_ranges``
    are windows and masks that each CT channel brings along. ``prior`` is the atlas to use. PlanError if the numbers
    allow no plan.
    """
    reference = MEMORY_REFERENCES[planner]
    network = (network or NetworkChoice(architecture=reference.architecture)).of_channels(channels)
    memory = None if device == "cpu" else reference.memory_gib if memory_gib is None else float(memory_gib)
    require_usable(fingerprint, channels, labels)
    fit: Fit
    if memory is None:
        if preset == "nnunet":
            raise PlanError("preset nnunet has plans for GPUs only; plan for a CPU with preset nnlite")
        fit = partial(fit_cpu, labels=labels.outputs, network=network)
        budget = "a step that is worth taking on a CPU"
    else:
        require_memory(memory)
        if preset == "nnunet":
            entries = len(labels.learned) + 1 + (labels.ignore is not None)  # nnU-Net counts what its table lists
            fit = partial(fit_nnunet, labels=entries, planner=planner, memory_gib=memory)
        else:
            fit = partial(
                fit_gpu,
                labels=labels.outputs,
                network=network,
                memory_gib=memory,
                corrections=corrections or {},
            )
        budget = f"{memory:g} GiB of GPU memory"
    made = hu_channels(hu_ranges, [name for name in channels if normalization_scheme(name) == "ct"], channels)
    seen = len(channels) + len(made) + (len(labels.structures) if prior is not None and prior.use == "channel" else 0)
    flat = () if preset == "nnunet" else flat_axes(fingerprint)
    transpose, configurations, missing = _configurations(fingerprint, channels, labels, fit, seen=seen, flat=flat)
    if prior is not None:
        configurations = [without_sides(one, labels, transpose) for one in configurations]
    return Plan(
        dataset=dataset,
        device=device,
        planner=planner,
        preset=preset,
        network=network,
        memory_gib=memory,
        transpose=transpose,
        channels=tuple(channels),
        labels=labels,
        intensities=fingerprint.intensities,
        training_cases=len(fingerprint.spacings_mm),
        configurations={one.name: decide_mirroring(one, labels, transpose) for one in configurations},
        hu_channels=made,
        prior=prior,
        sized_images=any(map(has_sizes, fingerprint.spacings_mm)),
        reasons={
            **network.reasons(on_gpu=device == "cuda"),
            "planner": f"{planner}: sized for {budget}",
            "transpose": _transpose_reason(transpose, configurations, flat),
            **({"hu_channels": f"asked for: {', '.join(one.in_words() for one in made)}"} if made else {}),
            **missing,
        },
    )


def _transpose_reason(transpose: Sequence[int], configurations: Sequence[Configuration], flat: Sequence[int]) -> str:
    if transpose[0] in flat:
        return f"the median image is one voxel deep along axis {'zyx'[transpose[0]]}, which comes first: it is a slice"
    reason = (
        f"axis {'zyx'[transpose[0]]} has the largest target spacing (the first, if several do) "
        "and comes first, so that 2D slices are the finest planes"
    )
    spacing = next((one.spacing_mm for one in configurations if one.name == "3d"), None)
    if spacing is None:
        return reason
    finest = min((1, 2), key=lambda axis: spacing[axis])
    return (
        f"{reason}: {spacing[0]:.3g} mm, {spacing[0] / spacing[finest]:.2g} x coarser than {'zyx'[transpose[finest]]} "
        f"with {spacing[finest]:.3g} mm"
    )


def require_usable(fingerprint: Fingerprint, channels: Sequence[str], labels: Labels) -> None:
    """PlanError unless there is a name for each channel and something to segment."""
    if len(channels) != len(fingerprint.intensities):
        raise PlanError(
            f"{len(channels)} channel names ({', '.join(channels)}) for images of {len(fingerprint.intensities)} "
            "channels; name each channel once"
        )
    if labels.count < 2:
        raise PlanError("there is no label besides the background: nothing to segment; name the labels in nnlite.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolution:
    """Images of one spacing, what a device can train on them, and why that spacing. Axes in transposed order."""

    spacing_mm: tuple[float, ...]
    median_shape: tuple[float, ...]
    fitted: PatchFit
    reason: str


def _configurations(
    fingerprint: Fingerprint,
    channels: Sequence[str],
    labels: Labels,
    fit_channels: Fit,
    *,
    seen: int,
    flat: Sequence[int],
) -> tuple[tuple[int, int, int], list[Configuration], dict[str, str]]:
    """The order of the axes, what is planned in that order, and why the rest is not.

    ``seen`` counts the channels that a network sees. Along the axes ``flat`` images are a single voxel.
    """
    target, reason = target_spacing(fingerprint)
    transpose = coarsest_axis_first(target, flat)
    median = median_resampled_shape(fingerprint, target, flat)
    spacing, shape = tuple(target[axis] for axis in transpose), tuple(median[axis] for axis in transpose)
    cases = len(fingerprint.spacings_mm)
    dataset_voxels = math.prod(shape) * cases
    reason = f"{millimetres(spacing)}: {reason}"
    make = partial(_configuration, channels=channels, relative_size=fingerprint.median_relative_size_after_crop)
    fit = partial(fit_channels, channels=seen)
    planned: list[Configuration] = []
    missing: dict[str, str] = {}
    try:
        slices = _Resolution(
            spacing_mm=spacing[1:],
            median_shape=shape[1:],
            fitted=fit(spacing[1:], shape[1:], dataset_voxels),
            reason=f"in-plane part of {reason}; slices keep their own distance",
        )
    except PlanError as problem:
        missing["2d"] = str(problem)  # a long thin volume can still be planned in 3D
    else:
        why = "over the whole batch, as always in 2D: single slices often lack a structure"
        planned.append(make("2d", slices, batch_dice=(True, why)))
    if shape[0] == 1:
        why = f"the images are flat: {voxels(shape)} voxels in the median case"
        missing.update({"3d": why, "3d-lowres": why, "3d-cascade": why})
    else:
        try:
            fitted = fit(spacing, shape, dataset_voxels)
        except PlanError as problem:
            raise PlanError(f"3d cannot be planned: {problem}") from problem
        full = _Resolution(spacing_mm=spacing, median_shape=shape, fitted=fitted, reason=reason)
        low = _low_resolution(full, fit, cases)
        planned += _volumes(full, low, make)
        if not isinstance(low, str):
            try:
                fitted = fit_channels(spacing, shape, dataset_voxels, channels=seen + len(labels.foreground))
            except PlanError as problem:
                missing["3d-cascade"] = str(problem)
            else:
                planned.append(_cascade(replace(full, fitted=fitted), make))
        else:
            missing.update({"3d-lowres": low, "3d-cascade": f"there is no 3d-lowres to start from: {low}"})
    if not planned:
        raise PlanError(missing["2d"])
    return transpose, planned, missing


def _low_resolution(full: _Resolution, fit: Callable[..., PatchFit], cases: int) -> _Resolution | str:
    """The resolution at which a patch sees enough of an image, or why there is none."""
    spacing, shape = full.spacing_mm, full.median_shape
    covered = math.prod(full.fitted.patch_size) / math.prod(shape)
    if covered >= LOW_RESOLUTION_BELOW:
        return (
            f"at full resolution the patch already has {covered:.0%} of the median image's voxels "
            f"({voxels(full.fitted.patch_size)} of {voxels(shape)}); a low resolution is planned below "
            f"{LOW_RESOLUTION_BELOW:.0%}"
        )
    for coarser in coarser_spacings(spacing):
        exact = [old / new * length for old, new, length in zip(spacing, coarser, shape, strict=True)]
        low_shape = tuple(max(1, round(length)) for length in exact)
        try:
            fitted = fit(coarser, low_shape, math.prod(exact) * cases)
        except PlanError as problem:
            return f"a lower resolution cannot be planned: {problem}"
        if math.prod(fitted.patch_size) / math.prod(exact) >= LOW_RESOLUTION_BELOW:
            break
    saving = math.prod(shape) / math.prod(exact)
    if saving < LOW_RESOLUTION_SAVES:
        return (
            f"{millimetres(coarser)}, where a patch would see {LOW_RESOLUTION_BELOW:.0%} of the median image, saves "
            f"only a factor of {saving:.2f} in voxels, less than {LOW_RESOLUTION_SAVES}"
        )
    reason = (
        f"{millimetres(coarser)}: at full resolution a patch has only {covered:.1%} of the median image's voxels, here "
        f"{LOW_RESOLUTION_BELOW:.0%}; images have {saving:.1f} x fewer voxels"
    )
    return _Resolution(spacing_mm=coarser, median_shape=low_shape, fitted=fitted, reason=reason)


def _volumes(full: _Resolution, low: _Resolution | str, make: Callable[..., Configuration]) -> list[Configuration]:
    """The 3D configurations that start from the image: one, or two where there is a low resolution."""
    much = "a patch sees a good part of an image"
    if isinstance(low, str):
        return [make("3d", full, batch_dice=(False, f"per sample: {much} (no 3d-lowres is planned)"))]
    return [
        make("3d", full, batch_dice=(True, LITTLE_CONTEXT)),
        make("3d-lowres", low, batch_dice=(False, f"per sample: at this resolution {much}")),
    ]


def _cascade(full: _Resolution, make: Callable[..., Configuration]) -> Configuration:
    """The configuration that starts from the image and what 3d-lowres says about it."""
    return make(
        "3d-cascade",
        full,
        batch_dice=(True, LITTLE_CONTEXT),
        previous_stage=("3d-lowres", "corrects at full resolution what 3d-lowres predicts with more context"),
    )


def _configuration(
    name: ConfigurationName,
    resolution: _Resolution,
    *,
    channels: Sequence[str],
    relative_size: float,
    batch_dice: tuple[bool, str],
    previous_stage: tuple[ConfigurationName | None, str] = (None, "starts from the image alone"),
) -> Configuration:
    schemes = tuple(normalization_scheme(channel) for channel in channels)
    by_name = ", ".join(f"{channel} -> {scheme}" for channel, scheme in zip(channels, schemes, strict=True))
    return Configuration(
        name=name,
        spacing_mm=resolution.spacing_mm,
        median_shape=tuple(float(length) for length in resolution.median_shape),
        patch_size=resolution.fitted.patch_size,
        batch_size=resolution.fitted.batch_size,
        normalization=schemes,
        use_nonzero_mask=tuple(needs_mask(scheme, relative_size) for scheme in schemes),
        batch_dice=batch_dice[0],
        topology=resolution.fitted.topology,
        epochs=resolution.fitted.epochs,
        iterations=resolution.fitted.iterations,
        previous_stage=previous_stage[0],
        reasons={
            "spacing_mm": resolution.reason,
            "median_shape": f"{voxels(resolution.median_shape)}: median of the cases resampled to this spacing",
            **resolution.fitted.reasons,
            "normalization": f"by channel name: {by_name}",
            "use_nonzero_mask": mask_reason(relative_size),
            "batch_dice": batch_dice[1],
            "previous_stage": previous_stage[1],
        },
    )

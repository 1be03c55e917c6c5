"""nnU-Net v2's plans.json and dataset.json as an nnlite plan.

Spacing, transpose, patch, batch, normalisation and network are taken over as they are; nothing is planned anew. Every
setting that changes the result and has no counterpart in nnlite is refused by its name and value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from nnlite.data.geometry import has_sizes
from nnlite.data.labels import Labels
from nnlite.data.records import LARGEST_RECORD_BYTES
from nnlite.errors import DatasetError, PlanError
from nnlite.interop.nnunet_network import topology_from_nnunet
from nnlite.planning.configurations import Configuration, ConfigurationName, NormalizationScheme
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.network import NetworkChoice
from nnlite.planning.nnunet import MEMORY_REFERENCES, Planner
from nnlite.planning.planner import Plan

NORMALIZATION: Mapping[str, NormalizationScheme] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale_to_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
READERS = ("SimpleITKIO", "NibabelIO", "NaturalImage2DIO", "Tiff3DIO")  # these leave the array as the file has it
PLANNERS: Mapping[str, Planner] = {
    "nnUNetPlannerResEncM": "residual-M",
    "nnUNetPlannerResEncL": "residual-L",
    "nnUNetPlannerResEncXL": "residual-XL",
}
RESAMPLING = "resample_data_or_seg_to_shape"
RESAMPLING_DEFAULTS = {  # of nnU-Net's function, where the plans are silent
    "is_seg": False,
    "order": 3,
    "order_z": 0,
    "force_separate_z": False,
    "separate_z_anisotropy_threshold": 3,
}
RESAMPLING_NEEDED = {  # what nnlite does to images, to labels and to predictions
    "data": {"order": 3, "force_separate_z": None},
    "seg": {"order": 1, "force_separate_z": None, "is_seg": True},
    "probabilities": {"order": 1, "force_separate_z": None},
}


def plan_from_nnunet(plans: Mapping[str, Any], dataset: Mapping[str, Any], names: Sequence[str] = ()) -> Plan:
    """The nnlite plan that says what the content of nnU-Net's ``plans.json`` and ``dataset.json`` says.

    ``names`` are nnU-Net's configurations to take over, by default all of them; what a cascade starts from comes along.
    PlanError names what is missing, or what nnlite cannot represent.
    """
    try:
        return _plan(plans, dataset, names)
    except KeyError as problem:
        raise PlanError(f"these are no plans of nnU-Net v2: there is no {problem}") from problem
    except (TypeError, ValueError, AttributeError) as problem:
        raise PlanError(f"these are no plans of nnU-Net v2: {problem}") from problem


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of nnU-Net; PlanError where there is none."""
    try:
        if (size := path.stat().st_size) > LARGEST_RECORD_BYTES:
            raise PlanError(f"{path} has {size} bytes; no plans have more than {LARGEST_RECORD_BYTES}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise PlanError(f"{path} should hold one JSON object")
    return content


def configuration_name(plans: Mapping[str, Any], name: str) -> ConfigurationName:
    """What nnlite calls one of nnU-Net's configurations; users of nnU-Net give names of their own to edited ones.

    >>> plans = {"configurations": {"mine": {"inherits_from": "3d_fullres"}, "3d_fullres": {"patch_size": [8, 8, 8]}}}
    >>> configuration_name(plans, "mine")
    '3d'
    """
    settings = resolved_settings(plans, name)
    if len(settings["patch_size"]) == 2:
        return "2d"
    if settings.get("previous_stage") is not None:
        return "3d-cascade"
    return "3d-lowres" if name == "3d_lowres" or settings.get("next_stage") is not None else "3d"


def resolved_settings(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One configuration of nnU-Net's plans with all that it inherits from others."""
    settings: dict[str, Any] = {}
    seen: list[str] = []
    parent: str | None = name
    while parent is not None:
        if parent in seen:
            raise PlanError(f"configurations inherit from each other in a circle: {' -> '.join([*seen, parent])}")
        if parent not in plans["configurations"]:
            raise PlanError(
                f"nnU-Net's plans have no configuration {parent}; there are {', '.join(plans['configurations'])}"
            )
        seen.append(parent)
        own = plans["configurations"][parent]
        settings = {**own, **settings}
        parent = own.get("inherits_from")
    return settings


def _plan(plans: Mapping[str, Any], dataset: Mapping[str, Any], names: Sequence[str]) -> Plan:
    _require_readers(plans, dataset)
    chosen: dict[ConfigurationName, str] = {}
    for name in _with_previous_stages(plans, names or tuple(plans["configurations"])):
        ours = configuration_name(plans, name)
        if chosen.setdefault(ours, name) != name:
            raise PlanError(
                f"{chosen[ours]} and {name} would both be {ours} in nnlite; take over one of them "
                "(or delete the other from a copy of the plans)"
            )
    z, y, x = (int(axis) for axis in plans["transpose_forward"])
    channels = _channels(dataset)
    configurations: dict[str, Configuration] = {
        ours: _configuration(plans, name, ours) for ours, name in chosen.items()
    }
    planner = _planner(plans, configurations)
    return Plan(
        dataset=str(plans["dataset_name"]),
        device="cuda",
        planner=planner,
        network=NetworkChoice(architecture=MEMORY_REFERENCES[planner].architecture),
        preset="nnunet",
        memory_gib=MEMORY_REFERENCES[planner].memory_gib,
        transpose=(z, y, x),
        channels=channels,
        labels=_labels(dataset),
        intensities=_intensities(plans, len(channels)),
        training_cases=int(dataset.get("numTraining", 0)),
        configurations=configurations,
        reasons={"planner": f"taken over from nnU-Net's plans {plans.get('plans_name', '')}".rstrip()},
        sized_images=has_sizes(plans.get("original_median_spacing_after_transp") or (0.0,)),
    )


def _with_previous_stages(plans: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        previous = resolved_settings(plans, name).get("previous_stage")
        if previous is not None and previous not in names:
            yield previous
        yield name


def _configuration(plans: Mapping[str, Any], name: str, ours: ConfigurationName) -> Configuration:
    settings = resolved_settings(plans, name)
    _require_same_preprocessing(settings, name)
    schemes = settings["normalization_schemes"]
    if unknown := sorted(set(schemes) - NORMALIZATION.keys()):
        raise PlanError(f"{name}: nnlite has no {', no '.join(unknown)}; it has {', '.join(NORMALIZATION)}")
    return Configuration(
        name=ours,
        spacing_mm=tuple(float(step) for step in settings["spacing"]),
        median_shape=tuple(float(size) for size in settings["median_image_size_in_voxels"]),
        patch_size=tuple(int(size) for size in settings["patch_size"]),
        batch_size=int(settings["batch_size"]),
        normalization=tuple(NORMALIZATION[scheme] for scheme in schemes),
        use_nonzero_mask=tuple(bool(use) for use in settings["use_mask_for_norm"]),
        batch_dice=bool(settings.get("batch_dice", False)),
        topology=topology_from_nnunet(settings, name),
        previous_stage="3d-lowres" if ours == "3d-cascade" else None,
        reasons={"all": f"taken over from nnU-Net's configuration {name}"},
    )


def _require_same_preprocessing(settings: Mapping[str, Any], name: str) -> None:
    """PlanError unless images are made ready, and predictions brought back, in the way that nnlite knows."""
    if (preprocessor := settings.get("preprocessor_name", "DefaultPreprocessor")) != "DefaultPreprocessor":
        raise PlanError(f"{name}: nnlite has no preprocessor {preprocessor}, only nnU-Net's DefaultPreprocessor")
    for what, different in RESAMPLING_NEEDED.items():
        function = settings.get(f"resampling_fn_{what}", RESAMPLING)
        if function != RESAMPLING:
            raise PlanError(f"{name}: nnlite has no resampling_fn_{what} {function}, only nnU-Net's {RESAMPLING}")
        needed = {**RESAMPLING_DEFAULTS, **different}
        given = {**RESAMPLING_DEFAULTS, **settings.get(f"resampling_fn_{what}_kwargs", different)}
        if given != needed:
            faults = [f"{key} {value}" for key, value in given.items() if key not in needed or needed[key] != value]
            raise PlanError(f"{name}: nnlite cannot resample {what} with {', '.join(faults)}; it does so with {needed}")


def _require_readers(plans: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    reader = dataset.get("overwrite_image_reader_writer") or plans.get("image_reader_writer") or READERS[0]
    if reader not in READERS:
        raise PlanError(
            f"images were read by {reader}, and nnlite does not know in which order it puts the axes; "
            f"it knows {', '.join(READERS)}"
        )
    if (manager := plans.get("label_manager", "LabelManager")) != "LabelManager":
        raise PlanError(f"nnlite has no label manager {manager}, only nnU-Net's LabelManager")


def _channels(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    names = dataset["channel_names"] if "channel_names" in dataset else dataset["modality"]
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _labels(dataset: Mapping[str, Any]) -> Labels:
    """The labels, or regions, in the order of the network's outputs; nnU-Net's values go 0, 1, 2, .. without a gap.

    No pair of them is exchanged by a mirror: nnU-Net has trained its networks without.
    """
    try:
        labels = Labels.from_table(dataset["labels"], dataset.get("regions_class_order") or (), mirrored=())
    except DatasetError as problem:
        raise PlanError(f"dataset.json: {problem}") from problem
    if labels.values != tuple(range(labels.count)):
        raise PlanError(f"labels: nnU-Net's values go 0, 1, 2, .. without a gap, not {labels.in_words()}")
    return labels


def _intensities(plans: Mapping[str, Any], channels: int) -> tuple[IntensityProperties, ...]:
    """Foreground statistics by channel; plans of early versions spell the key another way."""
    older, newer = "foreground_intensity_properties_by_modality", "foreground_intensity_properties_per_channel"
    given = plans[newer] if newer in plans else plans[older]
    names = [field.name for field in fields(IntensityProperties)]
    return tuple(
        IntensityProperties(**{name: float(given[str(channel)][name]) for name in names}) for channel in range(channels)
    )


def _planner(plans: Mapping[str, Any], configurations: Mapping[str, Configuration]) -> Planner:
    """Which of the known planners made these plans, else the one that plans such networks."""
    residual = any(one.topology.architecture == "resenc" for one in configurations.values())
    return PLANNERS.get(str(plans.get("experiment_planner_used")), "residual-M" if residual else "plain")

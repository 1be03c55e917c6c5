"""The smallest plan and preprocessed cases that a training can run on; shared by the tests of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nnlite.data.annotated import Annotated
from nnlite.data.labels import Labels
from nnlite.planning.configurations import Configuration, ConfigurationName
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Plan
from nnlite.planning.topology import Architecture, plan_topology
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration
from nnlite.preprocessing.store import CaseStore, StoredCase

INTENSITY = IntensityProperties(
    mean=0.0, median=0.0, std=1.0, min=-3.0, max=3.0, percentile_00_5=-2.5, percentile_99_5=2.5
)


def plan(name: ConfigurationName = "3d", architecture: Architecture = "unet", base_features: int = 4) -> Plan:
    """A plan whose configurations are all as small as can be."""
    configurations = {}
    names: tuple[ConfigurationName, ...] = ("3d-lowres", "3d-cascade") if name == "3d-cascade" else (name,)
    for one in names:
        ndim = 2 if one == "2d" else 3
        topology, patch = plan_topology(
            (1.0,) * ndim, (16,) * ndim, architecture=architecture, base_features=base_features
        )
        configurations[one] = Configuration(
            name=one,
            spacing_mm=(1.0,) * ndim,
            median_shape=(20.0,) * ndim,
            patch_size=patch,
            batch_size=3,
            normalization=("zscore",),
            use_nonzero_mask=(False,),
            batch_dice=False,
            topology=topology,
            epochs=2,
            iterations=2,
            previous_stage="3d-lowres" if one == "3d-cascade" else None,
            reasons={},
        )
    return Plan(
        dataset="phantom",
        device="cpu",
        planner="plain",
        memory_gib=None,
        transpose=(0, 1, 2),
        channels=("MR",),
        labels=Labels(names=("background", "ball", "core"), values=(0, 1, 2)),
        intensities=(INTENSITY,),
        training_cases=3,
        configurations=dict(configurations),
        reasons={},
    )


def store_cases(
    folder: Path, *, cascade: bool = False, annotated: Mapping[str, Annotated] = MappingProxyType({})
) -> dict[str, StoredCase]:
    """Three noisy volumes with a ball and its core; ``annotated`` tells which of the two is, where not both are."""
    store = CaseStore(folder)
    shape = (18, 20, 22)
    restoration = Restoration(
        case_id="",
        shape=shape,
        box=((0, 18), (0, 20), (0, 22)),
        transpose=(0, 1, 2),
        cropped_shape=shape,
        spacing_mm=(1.0, 1.0, 1.0),
        resampled_shape=shape,
        resampled_spacing_mm=(1.0, 1.0, 1.0),
    )
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - (9, 10, 11), axis=-1)
    label = ((distance < 7).astype(np.uint8) + (distance < 3)).astype(np.uint8)
    for number in range(3):
        image = label + np.random.default_rng(number).normal(0, 0.3, shape)
        case = PreprocessedCase(
            case_id=f"case_{number}",
            image=image[None].astype(np.float32),
            label=label,
            previous=label if cascade else None,
            restoration=replace(restoration, case_id=f"case_{number}"),
        )
        drawn = annotated.get(case.case_id)
        if drawn is None:
            store.write(case)
        else:
            kept = np.where(np.isin(label, [index for index, here in enumerate(drawn, 1) if here]), label, 0)
            store.write(replace(case, label=kept.astype(np.uint8)), plan().labels, drawn)
    return {case_id: store.open(case_id) for case_id in store.ids()}

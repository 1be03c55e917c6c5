"""Batches of an epoch are a function of seed and epoch, and a cascade's hold the previous stage as channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgenerators.transforms.color_transforms import BrightnessTransform

from nnlite.data.labels import Labels
from nnlite.planning.configurations import Configuration, ConfigurationName
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Plan
from nnlite.planning.topology import plan_topology
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.training.augment import Batch
from nnlite.training.batches import BatchSource

INTENSITY = IntensityProperties(
    mean=0.0, median=0.0, std=1.0, min=-3.0, max=3.0, percentile_00_5=-2.5, percentile_99_5=2.5
)


def plan(name: ConfigurationName = "3d") -> Plan:
    """A plan whose configurations are all as small as can be."""
    configurations = {}
    names: tuple[ConfigurationName, ...] = ("3d-lowres", "3d-cascade") if name == "3d-cascade" else (name,)
    for one in names:
        ndim = 2 if one == "2d" else 3
        topology, patch = plan_topology((1.0,) * ndim, (16,) * ndim, base_features=4)
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


def store_cases(folder: Path, *, cascade: bool = False) -> dict[str, StoredCase]:
    """Three noisy volumes with a ball and its core."""
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
        store.write(case)
    return {case_id: store.open(case_id) for case_id in store.ids()}


def source(
    cases: dict[str, StoredCase],
    name: ConfigurationName = "3d",
    *,
    seed: int = 0,
    transforms: Sequence[Callable[..., dict]] = (),
) -> BatchSource:
    made = plan(name)
    return BatchSource(
        made, made.configuration(name), cases, cases, seed=seed, device=torch.device("cpu"), transforms=transforms
    )


def same(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_batches_have_the_sizes_and_types_of_the_configuration(name: ConfigurationName, tmp_path: Path) -> None:
    batches = source(store_cases(tmp_path), name)
    size = (16,) * (2 if name == "2d" else 3)
    for made in (batches.training_batches(0, 4), batches.validation_batches(0, 4)):
        listed = list(made)
        assert len(listed) == 4
        for batch in listed:
            assert batch.images.shape == (3, 1, *size)
            assert batch.images.dtype == torch.float32
            assert batch.labels.shape == (3, *size)
            assert batch.labels.dtype == torch.int64


def test_training_batches_are_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    cases = store_cases(tmp_path)
    first = list(source(cases, seed=1).training_batches(5, 3))
    assert same(first, list(source(cases, seed=1).training_batches(5, 3)))
    assert not same(first, list(source(cases, seed=2).training_batches(5, 3)))
    assert not same(first, list(source(cases, seed=1).training_batches(6, 3)))


def test_validation_patches_are_voxels_of_the_cases_as_they_are(tmp_path: Path) -> None:
    cases = store_cases(tmp_path)
    known = {value for case in cases.values() for value in case.image.ravel().tolist()}
    for batch in source(cases).validation_batches(0, 3):
        assert set(batch.images.unique().tolist()) <= known


def test_without_validation_cases_there_are_no_validation_batches(tmp_path: Path) -> None:
    made = plan()
    batches = BatchSource(made, made.configuration("3d"), store_cases(tmp_path), {}, seed=0, device=torch.device("cpu"))
    assert list(batches.validation_batches(0, 3)) == []


def test_a_cascade_sees_the_previous_labels_as_channels_of_zeros_and_ones(tmp_path: Path) -> None:
    batches = source(store_cases(tmp_path, cascade=True), "3d-cascade")
    for batch in batches.validation_batches(0, 2):
        assert batch.images.shape == (3, 3, 16, 16, 16)
        for index in (1, 2):  # the previous stage of these cases is the truth
            assert torch.equal(batch.images[:, index], (batch.labels == index).float())
    training = list(batches.training_batches(0, 8))
    assert {0.0, 1.0} == set(torch.cat([batch.images[:, 1:] for batch in training]).unique().tolist())
    alike = [(b.images[i, 1] == (b.labels[i] == 1)).float().mean().item() for b in training for i in range(3)]
    assert min(alike) < 1  # disturbed
    assert max(alike) == 1  # mirrored and turned together with the label


def test_a_users_batchgenerators_transform_changes_training_patches_only(tmp_path: Path) -> None:
    brighter = BrightnessTransform(mu=1000, sigma=1, per_channel=False)
    batches = source(store_cases(tmp_path), transforms=(brighter,))
    assert all(batch.images.mean() > 500 for batch in batches.training_batches(0, 2))
    assert all(batch.images.abs().max() < 10 for batch in batches.validation_batches(0, 2))

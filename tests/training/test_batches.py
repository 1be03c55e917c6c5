"""Batches of an epoch are a function of seed and epoch, and a cascade's hold the previous stage as channels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgenerators.transforms.color_transforms import BrightnessTransform
from tiny import plan, store_cases

from nnlite.data.labels import Labels
from nnlite.planning.configurations import ConfigurationName
from nnlite.planning.mirroring import Exchange
from nnlite.preprocessing.store import StoredCase
from nnlite.training.assemble import Batch
from nnlite.training.augmentation.presets import PresetName
from nnlite.training.batches import BatchSource


def source(
    cases: dict[str, StoredCase],
    name: ConfigurationName = "3d",
    *,
    seed: int = 0,
    transforms: Sequence[Callable[..., dict]] = (),
    threads: int = 2,
    augmentation: PresetName = "nnunet",
) -> BatchSource:
    made = plan(name)
    return BatchSource(
        made,
        made.configuration(name),
        cases,
        cases,
        seed=seed,
        device=torch.device("cpu"),
        transforms=transforms,
        threads=threads,
        augmentation=augmentation,
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


@pytest.mark.parametrize("name", ["2d", "3d-cascade"])
def test_batches_do_not_depend_on_the_number_of_threads(name: ConfigurationName, tmp_path: Path) -> None:
    cases = store_cases(tmp_path, cascade=name == "3d-cascade")
    transforms = (BrightnessTransform(mu=0, sigma=1),)  # draws from numpy's global random numbers
    alone, together = (source(cases, name, transforms=transforms, threads=threads) for threads in (1, 4))
    assert same(list(alone.training_batches(0, 12)), list(together.training_batches(0, 12)))
    assert same(list(alone.validation_batches(0, 12)), list(together.validation_batches(0, 12)))


def test_a_batch_is_the_same_however_many_follow(tmp_path: Path) -> None:
    batches = source(store_cases(tmp_path))
    assert same(list(batches.training_batches(0, 2)), list(batches.training_batches(0, 5))[:2])


def test_no_two_batches_of_a_training_are_alike(tmp_path: Path) -> None:
    batches = source(store_cases(tmp_path))
    listed = [batch for epoch in range(2) for batch in batches.training_batches(epoch, 3)]
    assert not any(same([a], [b]) for a, b in itertools.combinations(listed, 2))


def test_batches_are_the_same_from_memory_and_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = store_cases(tmp_path)
    held = source(cases)
    assert held.training.in_memory
    monkeypatch.setattr("nnlite.preprocessing.open_cases.MEMORY_SHARE", 0)
    mapped = source(cases)
    assert not mapped.training.in_memory
    assert same(list(held.training_batches(0, 4)), list(mapped.training_batches(0, 4)))


def test_validation_patches_are_voxels_of_the_cases_as_they_are(tmp_path: Path) -> None:
    cases = store_cases(tmp_path)
    known = {value for case in cases.values() for value in case.image.ravel().tolist()}
    for batch in source(cases).validation_batches(0, 3):
        assert set(batch.images.unique().tolist()) <= known


def test_training_patches_are_mirrored_as_planned_and_validation_patches_never(tmp_path: Path) -> None:
    made = plan()
    made = replace(made, labels=Labels.from_table({"left ball": 1, "right ball": 2}))
    configuration = replace(made.configuration("3d"), mirror_axes=(0, 2))
    cases = store_cases(tmp_path)
    batches = BatchSource(made, configuration, cases, cases, seed=0, device=torch.device("cpu"))
    assert batches.mirrored_axes == (0, 2)
    assert batches.training.exchange == Exchange(axis=2, indices=(0, 2, 1), channels=((1, 2),))
    assert not any(patch.flips for _ in range(4) for patch in next(batches.validation))


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


def test_without_augmentation_a_cascade_sees_what_the_first_stage_predicted(tmp_path: Path) -> None:
    batches = source(store_cases(tmp_path, cascade=True), "3d-cascade", augmentation="none")
    for batch in batches.training_batches(0, 8):
        for index in (1, 2):  # the truth, in these cases
            assert torch.equal(batch.images[:, index], (batch.labels == index).float())


def test_a_users_batchgenerators_transform_changes_training_patches_only(tmp_path: Path) -> None:
    brighter = BrightnessTransform(mu=1000, sigma=1, per_channel=False)
    batches = source(store_cases(tmp_path), transforms=(brighter,))
    assert all(batch.images.mean() > 500 for batch in batches.training_batches(0, 2))
    assert all(batch.images.abs().max() < 10 for batch in batches.validation_batches(0, 2))


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_a_network_without_padding_sees_a_margin_around_its_labels_mirrored_at_borders(
    name: ConfigurationName, tmp_path: Path
) -> None:
    cases = store_cases(tmp_path)
    made = plan(name, "unet-2015")
    one = made.configuration(name)
    margin, patch = one.topology.margin, one.patch_size
    batches = BatchSource(made, one, cases, cases, seed=0, device=torch.device("cpu"))
    (batch,) = batches.validation_batches(0, 1)
    assert batch.images.shape == (3, 1, *(size + 2 * more for size, more in zip(patch, margin, strict=True)))
    assert batch.labels.shape == (3, *patch)
    beyond = [(0, 0)] * (3 - len(patch)) + [(more, more) for more in margin]
    for image, label, case_id in zip(batch.images, batch.labels, batch.cases, strict=True):
        case = cases[case_id].mapped()
        whole = torch.from_numpy(np.pad(case.image[0], beyond, mode="symmetric"))
        truth = torch.from_numpy(np.array(case.label, dtype=np.int64))
        seen = image[0] if name == "3d" else image[:1]
        answered = label if name == "3d" else label[None]
        starts = itertools.product(*(range(n - s + 1) for n, s in zip(truth.shape, answered.shape, strict=True)))
        assert any(
            torch.equal(whole[tuple(slice(a, a + n) for a, n in zip(start, seen.shape, strict=True))], seen)
            and torch.equal(truth[tuple(slice(a, a + n) for a, n in zip(start, answered.shape, strict=True))], answered)
            for start in starts
        )

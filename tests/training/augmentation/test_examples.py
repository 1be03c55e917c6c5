"""The pictures of an augmentation show one place of a case, each transform alone, and samples of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import plan, store_cases

from nnlite.data.labels import Labels
from nnlite.planning.configurations import ConfigurationName
from nnlite.planning.prior import Prior
from nnlite.planning.topology import Architecture
from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.augmentation.examples import examples
from nnlite.training.patches import PatchLoader


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_every_transform_of_a_preset_is_shown_with_both_ends_of_its_range(
    name: ConfigurationName, tmp_path: Path
) -> None:
    made, cases = plan(name), store_cases(tmp_path)
    configuration = made.configuration(name)
    loader = PatchLoader.of(made, configuration, cases)
    augmentation = Augmentation.of("microscopy", made, configuration)
    shown = list(examples(loader, augmentation, samples=2, seed=0))
    moved = ["rotation", "scaling", "elastic deformation", "quarter turn"]
    both = [f"{step.name} {limit:g}" for step in augmentation.steps for limit in step.limits]
    assert [example.title for example in shown] == ["as read", *moved, *both, "sample 1", "sample 2"]
    assert {example.image.shape for example in shown} == {configuration.patch_size[-2:]}
    plain = shown[0]
    assert plain.label.any()
    for example in shown[1 : 1 + len(moved)]:
        assert not np.array_equal(example.image, plain.image), example.title
    for example in shown[1 + len(moved) : -2]:
        assert np.array_equal(example.label, plain.label), example.title  # nothing is moved
    strong = next(example for example in shown if example.title == "photon noise 0.15")
    weak = next(example for example in shown if example.title == "photon noise 0.02")
    assert np.abs(strong.image - plain.image).mean() > np.abs(weak.image - plain.image).mean() > 0


def test_the_same_seed_shows_the_same_pictures(tmp_path: Path) -> None:
    made, cases = plan(), store_cases(tmp_path)
    configuration = made.configuration("3d")
    augmentation = Augmentation.of("nnunet", made, configuration)
    loader = PatchLoader.of(made, configuration, cases)
    first, again, other = (list(examples(loader, augmentation, samples=2, seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[-1].image, other[-1].image)


@pytest.mark.parametrize("architecture", ["unet", "unet-2015"])
def test_patches_for_a_network_with_an_atlas_are_shown_as_large_as_it_sees_them(
    architecture: Architecture, tmp_path: Path
) -> None:
    made = replace(plan("2d", architecture), prior=Prior(use="channel", atlas_shape=(8, 8, 8)))
    configuration = made.configuration("2d")
    loader = PatchLoader.of(made, configuration, store_cases(tmp_path))
    shown = list(examples(loader, Augmentation.of("nnunet", made, configuration), samples=1, seed=0))
    seen_size = configuration.topology.seen_size(configuration.patch_size)
    assert {example.image.shape for example in shown} == {seen_size}
    assert (seen_size == configuration.patch_size) == (architecture == "unet")


def test_samples_show_left_and_right_exchanged_where_they_are_mirrored(tmp_path: Path) -> None:
    made = replace(plan(), labels=Labels.from_table({"left ball": 1, "right ball": 2}))
    configuration = made.configuration("3d")
    loader = PatchLoader.of(made, configuration, store_cases(tmp_path))
    moved_only = replace(Augmentation.of("nnunet", made, configuration), steps=())
    samples = list(examples(loader, moved_only, samples=20, seed=0))[-20:]
    # an image is its label and noise: 2 is brighter than 1, unless the two have changed places
    both = [one for one in samples if (one.label == 1).any() and (one.label == 2).any()]
    exchanged = {bool(one.image[one.label == 1].mean() > one.image[one.label == 2].mean()) for one in both}
    assert exchanged == {False, True}

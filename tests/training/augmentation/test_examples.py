"""The pictures of an augmentation show one place of a case, each transform alone, and samples of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import plan, store_cases

from nnlite.planning.configurations import ConfigurationName
from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.augmentation.examples import examples
from nnlite.training.patches import PatchLoader


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_every_transform_of_a_preset_is_shown_with_both_ends_of_its_range(
    name: ConfigurationName, tmp_path: Path
) -> None:
    made, cases = plan(name), store_cases(tmp_path)
    configuration = made.configuration(name)
    loader = PatchLoader(cases, patch_size=configuration.patch_size, batch_size=3)
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
    loader = PatchLoader(cases, patch_size=configuration.patch_size, batch_size=3)
    first, again, other = (list(examples(loader, augmentation, samples=2, seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[-1].image, other[-1].image)

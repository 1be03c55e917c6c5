"""The table of presets is nnU-Net's where it says so, and its names are those that a command line knows."""

from __future__ import annotations

from typing import get_args

import pytest

from nnlite.cli.arguments import parse_augmentation
from nnlite.training.augmentation.presets import PRESETS, PresetName
from nnlite.training.augmentation.spatial import Spatial


def test_the_default_is_the_augmentation_of_nnunet() -> None:
    preset = PRESETS["nnunet"]
    assert preset.spatial == Spatial(rotation=0.2, scaling=0.2, mirrors=True)
    assert [(step.name, step.probability, step.limits) for step in preset.steps] == [
        ("Gaussian noise", 0.1, (0.0, 0.1)),
        ("blur", 0.2, (0.5, 1.0)),
        ("brightness", 0.15, (0.75, 1.25)),
        ("contrast", 0.15, (0.75, 1.25)),
        ("low resolution", 0.25, (0.5, 1.0)),
        ("inverted gamma", 0.1, (0.7, 1.5)),
        ("gamma", 0.3, (0.7, 1.5)),
    ]


def test_the_preset_for_ct_has_nothing_that_gives_hounsfield_units_another_meaning() -> None:
    names = {step.name for step in PRESETS["ct"].steps}
    assert not names & {"brightness", "contrast", "gamma", "inverted gamma", "bias field"}
    assert {"metal streaks", "quantum noise"} <= names


def test_every_preset_has_a_name_on_the_command_line() -> None:
    assert set(PRESETS) == set(get_args(PresetName))
    assert [parse_augmentation(name) for name in PRESETS] == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_numbers_of_the_table_make_sense(name: PresetName) -> None:
    spatial = PRESETS[name].spatial
    for probability in (
        spatial.rotation,
        spatial.scaling,
        spatial.elastic,
        spatial.quarter_turns,
        *(step.probability for step in PRESETS[name].steps),
    ):
        assert 0 <= probability <= 1
    for low, high in (spatial.elastic_voxels, *(step.limits for step in PRESETS[name].steps)):
        assert 0 <= low <= high
    assert len({step.name for step in PRESETS[name].steps}) == len(PRESETS[name].steps)

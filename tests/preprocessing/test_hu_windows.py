"""Windows and masks are made of the Hounsfield units in the file, whatever the CT channel is clipped to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import INTENSITY, plan

from nnlite.planning.hu_channels import HuChannel, hu_channels, parse_windows
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.hu_windows import hu_windows
from nnlite.preprocessing.preprocess import preprocess
from nnlite.preprocessing.store import signature

LUNG = HuChannel(source="CT", name="lung", kind="window", low_hu=-1350.0, high_hu=150.0)
BONE = HuChannel(source="CT", name="200:", kind="mask", low_hu=200.0, high_hu=None)
SOFT = HuChannel(source="CT", name="-100:100", kind="mask", low_hu=-100.0, high_hu=100.0)


def planned(*made: HuChannel) -> tuple[Plan, Configuration]:
    """A plan for PET and CT, whose CT is clipped to -50 to 150 HU."""
    liver = replace(INTENSITY, mean=60.0, std=40.0, percentile_00_5=-50.0, percentile_99_5=150.0)
    configuration = replace(plan().configuration("3d"), normalization=("zscore", "ct"), use_nonzero_mask=(False, False))
    changed = replace(
        plan(),
        channels=("PET", "CT"),
        intensities=(INTENSITY, liver),
        configurations={"3d": configuration},
        hu_channels=made,
    )
    return changed, configuration


def test_a_window_is_linear_between_its_limits_and_a_mask_includes_them() -> None:
    image = torch.tensor([[[[-2000, -1350, -600, 150, 3000]]], [[[199, 200, -100, 100, 101]]]], dtype=torch.int16)
    lung, bone, soft = hu_windows(
        image, ["CT", "other"], [LUNG, replace(BONE, source="other"), replace(SOFT, source="other")]
    )
    assert lung.flatten().tolist() == pytest.approx([-1, -1, 0, 1, 1])
    assert bone.flatten().tolist() == [0, 1, 0, 0, 0]
    assert soft.flatten().tolist() == [0, 0, 1, 1, 0]


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_preprocessed_case_has_them_behind_its_own_channels(dtype: type) -> None:
    made, configuration = planned(LUNG, BONE)
    rng = np.random.default_rng(0)
    image = np.stack([rng.uniform(1, 9, (18, 20, 22)), rng.uniform(-1024, 1500, (18, 20, 22))]).astype(dtype)
    ready = preprocess("case", image, (1.0, 1.0, 1.0), made, configuration)
    assert ready.image.shape == (4, 18, 20, 22) == (len(made.image_channels), 18, 20, 22)
    hu = image[1].astype(np.float32)
    assert np.allclose(ready.image[2], np.clip((hu + 600) / 750, -1, 1), atol=1e-5)  # not clipped to -50 HU before
    assert np.array_equal(ready.image[3], hu >= 200)
    plain = preprocess("case", image, (1.0, 1.0, 1.0), *planned())
    assert np.array_equal(ready.image[:2], plain.image)


def test_each_of_two_scans_is_seen_through_its_own_window() -> None:
    made = hu_channels(parse_windows("lung"), ["CT", "CT"], ["CT", "CT"])
    one_ct, configuration = planned()
    two = replace(one_ct, channels=("CT", "CT"), hu_channels=made)
    image = np.random.default_rng(0).uniform(-1024, 1500, (2, 18, 20, 22)).astype(np.float32)
    ready = preprocess("case", image, (1.0, 1.0, 1.0), two, configuration)
    assert two.image_channels == ("CT", "CT", "CT 1 lung", "CT 2 lung")
    assert np.allclose(ready.image[2:], np.clip((image + 600) / 750, -1, 1), atol=1e-5)


def test_on_a_coarser_grid_windows_and_masks_stay_within_their_range() -> None:
    made, configuration = planned(LUNG, BONE)
    image = np.random.default_rng(0).uniform(-1024, 1500, (2, 18, 20, 22)).astype(np.float32)
    ready = preprocess("case", image, (0.7, 0.7, 0.7), made, configuration)
    assert ready.image.shape[1:] == (13, 14, 15)
    assert np.abs(ready.image[2]).max() <= 1
    assert ready.image[3].min() >= 0
    assert ready.image[3].max() <= 1


def test_cases_are_made_anew_when_other_channels_are_asked_for_and_else_not() -> None:
    signatures = {signature(*planned(*made)) for made in ((), (LUNG,), (LUNG, BONE), (replace(LUNG, low_hu=-1000.0),))}
    assert len(signatures) == 4
    assert signature(*planned(LUNG)) == signature(*planned(LUNG))

"""Normalised CT and Hounsfield units are two ways to write the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tiny import INTENSITY, plan

from nnlite.planning.hu_channels import HuChannel
from nnlite.preprocessing.hu_windows import hu_windows
from nnlite.preprocessing.normalize import normalize
from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.augmentation.imaging import Hounsfield, imaging_of

CT = replace(INTENSITY, mean=80.0, std=150.0, percentile_00_5=-700.0, percentile_99_5=900.0)


def test_hounsfield_units_are_those_that_were_normalised_and_clipped() -> None:
    hu = torch.linspace(-1024, 3071, 50).view(1, 1, 1, -1)
    normalised = normalize(hu, ["ct"], [CT])
    read = Hounsfield.of_ct(0, CT)
    assert torch.allclose(read.to_hu(normalised), hu.clamp(-700, 900), atol=1e-3)
    assert torch.allclose(read.from_hu(hu.clone()), normalised, atol=1e-5)


def test_only_channels_that_were_normalised_as_ct_are_ct() -> None:
    made = plan()
    configuration = replace(made.configuration("3d"), normalization=("zscore", "ct"), use_nonzero_mask=(False, False))
    made = replace(made, channels=("MR", "CT"), intensities=(INTENSITY, CT), configurations={"3d": configuration})
    seen = imaging_of(made, configuration)
    assert [channel for channel, _ in seen.ct_channels] == [1]
    assert seen.ct_channels[0][1].scan == 1
    assert (seen.is_ct(0), seen.is_ct(1), seen.is_ct(2)) == (False, True, False)


def test_windows_are_read_in_hounsfield_units_and_masks_are_none() -> None:
    lung = HuChannel(source="CT", name="lung", kind="window", low_hu=-1350.0, high_hu=150.0)
    bone = HuChannel(source="CT", name="200:", kind="mask", low_hu=200.0, high_hu=None)
    made = plan()
    configuration = replace(made.configuration("3d"), normalization=("ct",))
    made = replace(
        made, channels=("CT",), intensities=(CT,), configurations={"3d": configuration}, hu_channels=(lung, bone)
    )
    seen = imaging_of(made, configuration)
    assert [(channel, read.scan) for channel, read in seen.ct_channels] == [(0, 0), (1, 0)]
    hu = torch.linspace(-1350, 150, 9).view(1, 1, 1, -1)
    assert torch.allclose(seen.ct_channels[1][1].to_hu(hu_windows(hu, ["CT"], [lung])[0]), hu[0], atol=1e-3)
    assert seen.masks == (2,)
    images = torch.rand(8, 3, 8, 8, 8)
    augmentation = Augmentation.of("ct", made, configuration)
    augmentation = replace(augmentation, steps=tuple(step for step in augmentation.steps if not step.hides))
    after = augmentation.change(images.clone(), np.random.default_rng(0))
    assert torch.equal(after[:, 2], images[:, 2])
    assert not torch.equal(after[:, 1], images[:, 1])


def test_each_of_two_scans_has_windows_of_its_own() -> None:
    lung = HuChannel(source="CT", name="lung", kind="window", low_hu=-1350.0, high_hu=150.0)
    reads = [Hounsfield.of_window(replace(lung, source_number=number), ("CT", "PET", "CT")) for number in (1, 2)]
    assert [read.scan for read in reads if read is not None] == [0, 2]


def test_the_plane_of_the_scanner_is_found_after_a_transpose_and_in_slices_across_the_body_only() -> None:
    volumes, slices = plan(), plan("2d")
    assert imaging_of(volumes, volumes.configuration("3d")).axial == (1, 2)
    across = replace(volumes, transpose=(2, 0, 1))  # x, z, y
    assert imaging_of(across, volumes.configuration("3d")).axial == (0, 2)
    assert imaging_of(slices, slices.configuration("2d")).axial == (0, 1)
    assert imaging_of(replace(slices, transpose=(2, 0, 1)), slices.configuration("2d")).axial is None

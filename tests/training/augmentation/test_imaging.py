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
from nnlite.training.augmentation.imaging import Hounsfield, Imaging, imaging_of

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


def window(low: float, high: float) -> Hounsfield:
    return Hounsfield(scan=0, at_zero=(low + high) / 2, per_unit=(high - low) / 2, low=low, high=high)


def test_what_is_at_the_limit_of_one_channel_is_read_from_another_of_its_scan() -> None:
    reads = (Hounsfield.of_ct(0, CT), window(-150.0, 250.0), window(-1350.0, 150.0), window(200.0, 1400.0))
    truth = torch.tensor([-2000.0, -1000.0, -850.0, -700.0, 0.0, 220.0, 1000.0, 2000.0])
    image = torch.stack([read.from_hu(truth.clone()) for read in reads])
    found = Imaging(hounsfield=reads).hounsfield_units(image)
    known = [False, True, True, True, True, True, True, False]
    for ct, read in zip(found, reads, strict=True):
        assert ct.known.tolist() == known
        assert torch.allclose(ct.hu[ct.known], truth[ct.known], atol=1e-3)
        assert torch.allclose(ct.hu[~ct.known], truth[~ct.known].clamp(read.low, read.high), atol=1e-3)


def test_of_several_others_the_widest_is_asked() -> None:
    """Where a clipped channel was resampled, it rings near its limits: 1000 HU look like 590 here."""
    reads = (window(-150.0, 250.0), window(0.0, 600.0), window(-500.0, 1300.0), window(200.0, 1100.0))
    shown = (1000.0, 590.0, 1000.0, 990.0)
    image = torch.stack([read.from_hu(torch.tensor([hu])) for read, hu in zip(reads, shown, strict=True)])
    found = Imaging(hounsfield=reads).hounsfield_units(image)
    assert [round(ct.hu.item()) for ct in found] == [1000, 590, 1000, 990]  # the first alone is at its limit


def test_channels_that_show_something_of_their_own_keep_it() -> None:
    """What lies outside of a patch's case is 0 in all channels, whatever that means in each."""
    found = Imaging(hounsfield=(Hounsfield.of_ct(0, CT), window(-1350.0, 150.0))).hounsfield_units(torch.zeros(2, 3))
    assert [ct.hu.tolist() for ct in found] == [[80.0] * 3, [-600.0] * 3]


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

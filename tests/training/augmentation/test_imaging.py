"""Normalised CT and Hounsfield units are two ways to write the same."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny import INTENSITY, plan

from nnlite.preprocessing.normalize import normalize
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


def test_the_plane_of_the_scanner_is_found_after_a_transpose_and_in_slices_across_the_body_only() -> None:
    volumes, slices = plan(), plan("2d")
    assert imaging_of(volumes, volumes.configuration("3d")).axial == (1, 2)
    across = replace(volumes, transpose=(2, 0, 1))  # x, z, y
    assert imaging_of(across, volumes.configuration("3d")).axial == (0, 2)
    assert imaging_of(slices, slices.configuration("2d")).axial == (0, 1)
    assert imaging_of(replace(slices, transpose=(2, 0, 1)), slices.configuration("2d")).axial is None

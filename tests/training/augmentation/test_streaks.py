"""Streaks come from a point in the plane of the scanner, and stay within the range of the scan."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from chances import CT, CT_VOLUMES, chance, same_in_shares
from torch import Tensor

from nnlite.training.augmentation.imaging import Hounsfield, Imaging
from nnlite.training.augmentation.streaks import METAL_HU, add_streaks

SOFT = (50.0 - CT.at_zero) / CT.per_unit  # 50 HU


def streaked(limits: tuple[float, float] = (300.0, 300.0), imaging: Imaging = CT_VOLUMES, samples: int = 10) -> Tensor:
    """What streaks make of volumes of 50 HU, in HU."""
    images = torch.full((samples, 1, 6, 64, 80), SOFT)
    return CT.to_hu(add_streaks(images, chance(images, limits, imaging=imaging)))[:, 0]


def test_streaks_stay_between_the_values_that_images_are_clipped_to() -> None:
    hu = streaked((2000.0, 2000.0))
    assert hu.min() >= CT.low - 1e-3
    assert hu.max() <= CT.high + 1e-3
    assert CT.high < METAL_HU  # metal is at the upper end


def test_streaks_are_bright_and_dark_and_no_stronger_than_drawn_outside_of_metal() -> None:
    hu = streaked()
    assert hu.min() >= 50 - 300 - 1e-2
    assert hu.min() < 50 - 60
    assert (hu > 50 + 60).any()
    away = hu[hu < 50 + 300]
    assert away.numel() > 0.95 * hu.numel()
    assert away.std() > 5


@pytest.mark.parametrize(("tissue", "shown"), [(1000.0, 250.0), (-850.0, -150.0)])
def test_a_window_shows_what_a_ray_makes_of_bone_and_lung_beyond_it(tissue: float, shown: float) -> None:
    soft = Hounsfield(scan=0, at_zero=50.0, per_unit=200.0, low=-150.0, high=250.0)
    both = torch.stack([read.from_hu(torch.full((10, 6, 64, 80), tissue)) for read in (CT, soft)], dim=1)
    imaging = replace(CT_VOLUMES, hounsfield=(CT, soft))
    after = add_streaks(both, chance(both, (400.0, 400.0), imaging=imaging))
    scan, window = CT.to_hu(after[:, 0]), soft.to_hu(after[:, 1])
    assert torch.allclose(window, scan.clamp(-150, 250), atol=1e-2)
    by_rays = (scan - tissue).abs() <= 400  # elsewhere is metal
    assert torch.allclose(window[by_rays], torch.tensor(shown), atol=1e-2)  # 1000 - 400 > 250, and -850 + 400 < -150
    assert by_rays.float().mean() > 0.95
    assert scan.min() < tissue - 20


@pytest.mark.parametrize("limit", [CT.low, CT.high])
def test_voxels_beyond_the_range_of_the_scan_stay_there_but_for_metal(limit: float) -> None:
    images = torch.full((10, 1, 6, 64, 80), (limit - CT.at_zero) / CT.per_unit)
    hu = CT.to_hu(add_streaks(images, chance(images, (600.0, 600.0), imaging=CT_VOLUMES)))
    assert ((hu - limit).abs() < 1).float().mean() > 0.9
    assert hu.min() >= limit - 1e-2
    assert (hu.flatten(1).amax(dim=1) > 1000).all()


def test_there_is_metal_in_every_sample_and_streaks_fade_along_the_body() -> None:
    thin = replace(CT_VOLUMES, spacing_mm=(20.0, 1.0, 1.0))  # six slices are ten centimetres
    changes = (streaked(imaging=thin) - 50).abs().flatten(2).mean(dim=2)  # (samples, slices)
    assert (streaked().flatten(1).amax(dim=1) > 1000).all()
    assert (changes.amin(dim=1) < 0.1 * changes.amax(dim=1)).all()


def test_streaks_lie_in_the_plane_of_the_scanner_wherever_its_axes_are() -> None:
    transposed = Imaging(hounsfield=(CT,), spacing_mm=(1.0, 20.0, 1.0), axial=(0, 2))
    images = torch.full((6, 1, 64, 6, 80), SOFT)
    after = add_streaks(images, chance(images, (300.0, 300.0), imaging=transposed))
    changes = (CT.to_hu(after)[:, 0] - 50).abs().mean((1, 3))  # per place along the body
    assert (changes.amin(dim=1) < 0.1 * changes.amax(dim=1)).all()


@pytest.mark.parametrize(
    "imaging",
    [
        Imaging(hounsfield=(None,), spacing_mm=(1.0, 1.0), axial=(0, 1)),
        Imaging(hounsfield=(CT,), spacing_mm=(1.0, 1.0)),
    ],
)
def test_other_images_and_other_planes_stay_as_they_are(imaging: Imaging) -> None:
    images = torch.randn(4, 1, 16, 16)
    assert torch.equal(add_streaks(images.clone(), chance(images, (300.0, 300.0), imaging=imaging)), images)


def test_slices_get_streaks_too() -> None:
    images = torch.full((4, 1, 32, 48), SOFT)
    after = add_streaks(
        images.clone(),
        chance(images, (300.0, 300.0), imaging=Imaging(hounsfield=(CT,), spacing_mm=(1.0, 1.0), axial=(0, 1))),
    )
    assert (after != images).flatten(1).any(dim=1).all()


def test_shares_of_a_batch_are_those_of_the_whole() -> None:
    assert same_in_shares(add_streaks, torch.randn(6, 1, 6, 16, 20), (100.0, 600.0), CT_VOLUMES)

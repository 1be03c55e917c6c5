"""Counting adds noise and no bias, more of it where more is counted."""

from __future__ import annotations

import pytest
import torch
from chances import CT, CT_VOLUMES, chance, same_in_shares
from torch import Tensor

from nnlite.training.augmentation.counting import photon_noise, quantum_noise
from nnlite.training.augmentation.imaging import Hounsfield, Imaging


def steps(levels: tuple[float, ...], samples: int = 20) -> Tensor:
    """Samples of one channel whose rows are flat, a level each."""
    return torch.tensor(levels).view(1, 1, -1, 1).expand(samples, 1, len(levels), 4000).clone()


def test_photons_keep_the_mean_and_their_noise_is_the_root_of_their_number() -> None:
    before = steps((-1.0, 0.0, 1.0))  # a range of 2: no photons, half of them, all
    after = photon_noise(before.clone(), chance(before, (0.1, 0.1)))  # 100 photons at the brightest
    assert torch.allclose(after.mean((0, 1, 3)), torch.tensor([-1.0, 0.0, 1.0]), atol=0.005)
    wanted = [0.0, 2 * 50**0.5 / 100, 2 * 100**0.5 / 100]
    assert after.std(3).mean((0, 1)).tolist() == pytest.approx(wanted, rel=0.02)


def test_photons_are_counted_in_each_channel_for_itself() -> None:
    before = torch.cat([steps((0.0, 1.0)), steps((5.0, 9.0))], dim=1)
    after = photon_noise(before.clone(), chance(before, (0.1, 0.1)))
    assert (after.std(3)[:, 1, 1] / after.std(3)[:, 0, 1]).mean().item() == pytest.approx(4, rel=0.05)


def test_quantum_noise_is_as_drawn_in_water_and_grows_with_attenuation() -> None:
    hu = torch.tensor([-800.0, 0.0, 1000.0])
    before = steps(tuple(((hu - CT.at_zero) / CT.per_unit).tolist()))
    after = CT.to_hu(quantum_noise(before.clone(), chance(before, (20.0, 20.0), imaging=CT_VOLUMES)))
    assert torch.allclose(after.mean((0, 1, 3)), hu, atol=0.5)
    assert after.std(3).mean((0, 1)).tolist() == pytest.approx([20 * 0.2**0.5, 20, 20 * 2**0.5], rel=0.02)


def test_quantum_noise_stays_between_the_values_that_images_are_clipped_to() -> None:
    before = steps(((CT.low + 5 - CT.at_zero) / CT.per_unit, (CT.high - 5 - CT.at_zero) / CT.per_unit))
    after = CT.to_hu(quantum_noise(before.clone(), chance(before, (40.0, 40.0), imaging=CT_VOLUMES)))
    assert after.min() >= CT.low - 1e-3
    assert after.max() <= CT.high + 1e-3
    assert (after.std(3) > 1).all()


def test_quantum_noise_leaves_voxels_alone_that_lie_beyond_the_range_of_the_scan() -> None:
    before = steps(((CT.low - CT.at_zero) / CT.per_unit, (CT.high - CT.at_zero) / CT.per_unit))
    after = quantum_noise(before.clone(), chance(before, (40.0, 40.0), imaging=CT_VOLUMES))
    assert torch.allclose(after, before, atol=1e-5)


@pytest.mark.parametrize(("tissue", "shown"), [(1000.0, 250.0), (-850.0, -150.0)])
def test_quantum_noise_does_not_bring_bone_and_lung_into_a_window(tissue: float, shown: float) -> None:
    soft = Hounsfield(scan=0, at_zero=50.0, per_unit=200.0, low=-150.0, high=250.0)
    before = torch.stack([read.from_hu(torch.full((20, 1, 4000), tissue)) for read in (CT, soft)], dim=1)
    imaging = Imaging(hounsfield=(CT, soft), spacing_mm=(1.0, 1.0))
    after = quantum_noise(before.clone(), chance(before, (40.0, 40.0), imaging=imaging))
    assert torch.allclose(soft.to_hu(after[:, 1]), torch.tensor(shown), atol=1e-2)
    wanted = 40 * (1 + tissue / 1000) ** 0.5  # as the root of the attenuation
    assert CT.to_hu(after[:, 0]).std().item() == pytest.approx(wanted, rel=0.02)


def test_quantum_noise_leaves_other_channels_alone_and_is_the_same_in_those_of_one_scan() -> None:
    window = Hounsfield(scan=0, at_zero=0.0, per_unit=400.0, low=-400.0, high=400.0)
    before = torch.cat([steps((0.0,))] * 3, dim=1)
    imaging = Imaging(hounsfield=(CT, None, window), spacing_mm=(1.0, 1.0))
    after = quantum_noise(before.clone(), chance(before, (20.0, 20.0), imaging=imaging))
    assert torch.equal(after[:, 1], before[:, 1])
    noise = CT.to_hu(after[:, 0]) - CT.to_hu(before[:, 0])
    assert torch.allclose(window.to_hu(after[:, 2]), noise, atol=1e-3)
    assert noise.std() > 10


@pytest.mark.parametrize(
    ("transform", "limits", "imaging"),
    [(photon_noise, (0.05, 0.2), None), (quantum_noise, (5.0, 40.0), CT_VOLUMES)],
)
def test_shares_of_a_batch_are_those_of_the_whole(transform, limits: tuple[float, float], imaging) -> None:
    images = torch.randn(6, 1, 8, 9, 10, generator=torch.Generator().manual_seed(0))
    assert same_in_shares(transform, images, limits, imaging)

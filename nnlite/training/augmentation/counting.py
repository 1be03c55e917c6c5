"""Noise of counted quanta: the fewer are counted, the noisier, with the standard deviation a square root (Poisson).

In microscopy photons are counted, in CT quanta of X-rays. What they stand for in a CT is a simplification: noise there
arises in projections, and is drawn here as if every voxel counted for itself, in proportion to its attenuation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnlite.training.augmentation.chance import LARGEST_SEED, Chance

WATER_TO_AIR_HU = 1000.0  # Hounsfield's scale: attenuation is that of water at 0 HU, and none at -1000 HU
STD_EPSILON = 1e-8


def photon_noise(images: Tensor, chance: Chance) -> Tensor:
    """Count photons: none in the darkest voxel of a channel, and so many in the brightest that their noise is as drawn.

    The number drawn is the standard deviation there, as a share of the channel's range: 0.1 means 100 photons.
    """
    for row, rng in chance.own():
        photons = rng.uniform(*chance.limits) ** -2
        source = _generator(rng, images.device)
        for channel in images[row]:
            low = channel.amin()
            span = (channel.amax() - low).clamp_min_(STD_EPSILON)
            counted = torch.poisson((channel - low).mul_(photons / span), generator=source)
            channel.copy_(counted.mul_(span / photons).add_(low))
    return images


def quantum_noise(images: Tensor, chance: Chance) -> Tensor:
    """Noise of a CT in proportion to the root of its attenuation; the number drawn is its deviation in water, in HU.

    Channels made of one scan get the same noise; others are left as they are, and so are voxels that are beyond the
    limits of all channels of a scan.
    """
    for row, rng in chance.own():
        quanta = (WATER_TO_AIR_HU / rng.uniform(*chance.limits)) ** 2  # in a voxel of water
        source = _generator(rng, images.device)
        noise: dict[int, Tensor] = {}
        for ct in chance.imaging.hounsfield_units(images[row]):
            if ct.read.scan not in noise:
                expected = (ct.hu / WATER_TO_AIR_HU + 1).clamp_(min=0).mul_(quanta)
                counted = torch.poisson(expected, generator=source)
                noise[ct.read.scan] = counted.sub_(expected).mul_(WATER_TO_AIR_HU / quanta).mul_(ct.known)
            images[row, ct.channel] = ct.read.from_hu(ct.hu.add_(noise[ct.read.scan]))
    return images


def _generator(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """A sample's own numbers on the device: how many a count takes depends on the image."""
    return torch.Generator(device).manual_seed(int(rng.integers(LARGEST_SEED)))

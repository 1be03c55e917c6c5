"""The intensity transforms of nnU-Net: noise, blur, brightness, contrast, low resolution, gamma.

What they do follows nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021). Every transform is a tensor program
over the whole batch (batch, channels, *size) that touches only the samples it was drawn for; the noise itself is drawn
on the device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nnlite.training.augmentation.chance import Chance, on_device

BLUR_RADIUS = 3  # voxels: three standard deviations of the widest blur
STD_EPSILON = 1e-8


def add_noise(images: Tensor, chance: Chance) -> Tensor:
    """Add Gaussian noise whose standard deviation is drawn per sample (images are normalised: std about 1)."""
    chosen = chance.picked(images)
    if chosen is not None:
        sigma = chance.per_sample(chosen, images)
        drawn = torch.randn((len(chosen.here), *images.shape[1:]), generator=chance.noise, device=images.device)
        if not chosen.here.all():
            drawn = drawn[np.flatnonzero(chosen.here)]
        images[chosen.rows] = images[chosen.rows].addcmul_(drawn, sigma)
    return images


def blur(images: Tensor, chance: Chance) -> Tensor:
    """Gaussian blur, its width in voxels drawn per channel."""
    pairs, here = chance.per_channel(images)
    if len(pairs):
        volumes = images.flatten(0, 1)  # a view: what is written to it is written to the images
        chosen = on_device(pairs[here] @ (images.shape[1], 1), images.device, torch.int64)
        sigma = on_device(chance.rng.uniform(*chance.limits, size=len(pairs))[here], images.device, images.dtype)
        volumes[chosen] = gaussian_blur(volumes[chosen], sigma)
    return images


def gaussian_blur(volumes: Tensor, sigma: Tensor) -> Tensor:
    """Blur volumes (n, *size), each with its own standard deviation in voxels; borders are repeated."""
    offsets = torch.arange(BLUR_RADIUS + 1, device=volumes.device, dtype=volumes.dtype)
    kernels = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))  # one half, its middle first
    kernels = kernels / (2 * kernels.sum(dim=1, keepdim=True) - 1)
    centre, *others = kernels.view(*kernels.shape, *(1,) * (volumes.ndim - 1)).unbind(dim=1)
    for axis in range(1, volumes.ndim):
        length = volumes.shape[axis]
        places = torch.arange(-BLUR_RADIUS, length + BLUR_RADIUS, device=volumes.device).clamp_(0, length - 1)
        padded = volumes.index_select(axis, places)
        volumes = volumes * centre
        for distance, weight in enumerate(others, start=1):
            before = padded.narrow(axis, BLUR_RADIUS - distance, length)
            after = padded.narrow(axis, BLUR_RADIUS + distance, length)
            volumes.addcmul_(before + after, weight)
    return volumes


def scale_brightness(images: Tensor, chance: Chance) -> Tensor:
    """Multiply all intensities of a sample by one factor."""
    chosen = chance.picked(images)
    if chosen is not None:
        images[chosen.rows] = images[chosen.rows] * chance.per_sample(chosen, images)
    return images


def scale_contrast(images: Tensor, chance: Chance) -> Tensor:
    """Stretch intensities around each channel's mean by a factor, then clip them to the range they had."""
    chosen = chance.picked(images)
    if chosen is not None:
        picked = images[chosen.rows]
        axes = tuple(range(2, picked.ndim))
        mean = picked.mean(axes, keepdim=True)
        low, high = picked.amin(axes, keepdim=True), picked.amax(axes, keepdim=True)
        stretched = torch.lerp(mean, picked, chance.per_sample(chosen, images))
        images[chosen.rows] = stretched.clamp_(low, high)
    return images


def lower_resolution(images: Tensor, chance: Chance) -> Tensor:
    """Throw away resolution: nearest-neighbour to a coarser grid, linear back; the zoom is drawn per channel."""
    size = images.shape[2:]
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    pairs, here = chance.per_channel(images)
    zooms = chance.rng.uniform(*chance.limits, size=len(pairs))
    for (sample, channel), zoom in zip(pairs[here].tolist(), zooms[here].tolist(), strict=True):
        coarse_size = [max(1, round(length * zoom)) for length in size]
        coarse = functional.interpolate(images[sample, channel][None, None], coarse_size, mode="nearest-exact")
        images[sample, channel] = functional.interpolate(coarse, size, mode=mode)[0, 0]
    return images


def gamma(images: Tensor, chance: Chance) -> Tensor:
    """Bend intensities by a power law on their own range, keeping each channel's mean and standard deviation."""
    return _gamma(images, chance, inverted=False)


def inverted_gamma(images: Tensor, chance: Chance) -> Tensor:
    """The gamma of the negative image: bends dark where ``gamma`` bends bright."""
    return _gamma(images, chance, inverted=True)


def _gamma(images: Tensor, chance: Chance, *, inverted: bool) -> Tensor:
    chosen = chance.picked(images)
    if chosen is not None:
        picked = -images[chosen.rows] if inverted else images[chosen.rows]
        axes = tuple(range(2, picked.ndim))
        mean, std = _moments(picked)
        low, high = picked.amin(axes, keepdim=True), picked.amax(axes, keepdim=True)
        span = (high - low).clamp_min_(STD_EPSILON)
        # a power by way of logarithms: in half the time of ``pow_`` on a CPU
        bent = picked.sub_(low).div_(span).log2_().mul_(chance.per_sample(chosen, images)).exp2_()
        bent_mean, bent_std = _moments(bent)
        bent = bent.sub_(bent_mean).mul_(std / bent_std.clamp_min_(STD_EPSILON)).add_(mean)
        images[chosen.rows] = bent.neg_() if inverted else bent
    return images


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel; a norm is many times faster than torch's own ``std`` on a CPU."""
    axes = tuple(range(2, images.ndim))
    mean = images.mean(axes, keepdim=True)
    count = math.prod(images.shape[2:])
    norm = torch.linalg.vector_norm(images - mean, dim=axes, keepdim=True)
    return mean, norm / math.sqrt(max(count - 1, 1))

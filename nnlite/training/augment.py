"""Vary the intensities of a training batch, on the device that trains.

Transforms, their order and their probabilities follow nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021):
noise, blur, brightness, contrast, low resolution, two gammas. (Poses and flips are drawn with the patches, see
``patches.py``.) Every transform is a tensor program over the whole batch (batch, channels, *size) that touches only the
samples it was drawn for. Decisions come from a numpy generator, so they are the same on every device; the noise itself
is drawn on the device. Of a batch that several processes share each has a ``Share``: all is drawn for the whole batch,
and applied to what is at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nnlite.training.share import Share

NOISE_PROBABILITY, NOISE_SIGMA = 0.1, (0.0, 0.1)
BLUR_PROBABILITY, BLUR_SIGMA_VOXELS = 0.2, (0.5, 1.0)
BRIGHTNESS_PROBABILITY, BRIGHTNESS_FACTOR = 0.15, (0.75, 1.25)
CONTRAST_PROBABILITY, CONTRAST_FACTOR = 0.15, (0.75, 1.25)
LOW_RESOLUTION_PROBABILITY, LOW_RESOLUTION_ZOOM = 0.25, (0.5, 1.0)
INVERTED_GAMMA_PROBABILITY, GAMMA_PROBABILITY, GAMMA_EXPONENT = 0.1, 0.3, (0.7, 1.5)
CHANNEL_PROBABILITY = 0.5  # blur and low resolution befall each channel of a chosen sample with this probability
BLUR_RADIUS = 3  # voxels: three standard deviations of the widest blur
STD_EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """The samples that a transform was drawn for: ``rows`` (on the device) those of them that are at hand.

    ``here`` tells of each that was drawn whether it is one of these.
    """

    rows: Tensor
    here: np.ndarray


def augment(images: Tensor, rng: np.random.Generator, share: Share | None = None) -> Tensor:
    """All transforms in their order, written into ``images`` (batch, channels, *size).

    These are the ``share`` of a batch; by default they are all of it.
    """
    noise = torch.Generator(images.device).manual_seed(int(rng.integers(2**62)))
    images = add_noise(images, rng, noise, share)
    images = blur(images, rng, share)
    images = scale_brightness(images, rng, share)
    images = scale_contrast(images, rng, share)
    images = lower_resolution(images, rng, share)
    images = gamma(images, rng, share, probability=INVERTED_GAMMA_PROBABILITY, inverted=True)
    return gamma(images, rng, share, probability=GAMMA_PROBABILITY, inverted=False)


def _on_device(numbers: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A few numbers on the device, which is not waited for."""
    tensor = torch.from_numpy(numbers).to(dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _picked(rng: np.random.Generator, images: Tensor, share: Share | None, probability: float) -> Picked | None:
    """The samples that a transform was drawn for, or None for none."""
    share = share or Share.whole(len(images))
    chosen = np.flatnonzero(rng.random(share.samples) < probability)
    here = share.has(chosen)
    rows = _on_device(chosen[here] - share.first, images.device, torch.int64)
    return Picked(rows=rows, here=here) if len(chosen) else None


def _per_sample(rng: np.random.Generator, limits: tuple[float, float], picked: Picked, like: Tensor) -> Tensor:
    """One uniform number per picked sample, shaped to broadcast over (samples, channels, *size)."""
    numbers = rng.uniform(*limits, size=len(picked.here))[picked.here]
    return _on_device(numbers, like.device, like.dtype).view(-1, *(1,) * (like.ndim - 1))


def _chosen_channels(
    rng: np.random.Generator, images: Tensor, share: Share | None, probability: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (sample, channel): samples by ``probability``, then each of their channels by a coin; and which are here."""
    share = share or Share.whole(len(images))
    samples = rng.random(share.samples) < probability
    channels = rng.random((share.samples, images.shape[1])) < CHANNEL_PROBABILITY
    pairs = np.argwhere(samples[:, None] & channels)
    return pairs - (share.first, 0), share.has(pairs[:, 0])


def add_noise(images: Tensor, rng: np.random.Generator, noise: torch.Generator, share: Share | None = None) -> Tensor:
    """Add Gaussian noise whose standard deviation is drawn per sample (images are normalised: std about 1)."""
    chosen = _picked(rng, images, share, NOISE_PROBABILITY)
    if chosen is not None:
        sigma = _per_sample(rng, NOISE_SIGMA, chosen, images)
        drawn = torch.randn((len(chosen.here), *images.shape[1:]), generator=noise, device=images.device)
        if not chosen.here.all():
            drawn = drawn[np.flatnonzero(chosen.here)]
        images[chosen.rows] = images[chosen.rows].addcmul_(drawn, sigma)
    return images


def blur(images: Tensor, rng: np.random.Generator, share: Share | None = None) -> Tensor:
    """Gaussian blur, its width in voxels drawn per channel."""
    pairs, here = _chosen_channels(rng, images, share, BLUR_PROBABILITY)
    if len(pairs):
        volumes = images.flatten(0, 1)  # a view: what is written to it is written to the images
        chosen = _on_device(pairs[here] @ (images.shape[1], 1), images.device, torch.int64)
        sigma = _on_device(rng.uniform(*BLUR_SIGMA_VOXELS, size=len(pairs))[here], images.device, images.dtype)
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


def scale_brightness(images: Tensor, rng: np.random.Generator, share: Share | None = None) -> Tensor:
    """Multiply all intensities of a sample by one factor."""
    chosen = _picked(rng, images, share, BRIGHTNESS_PROBABILITY)
    if chosen is not None:
        images[chosen.rows] = images[chosen.rows] * _per_sample(rng, BRIGHTNESS_FACTOR, chosen, images)
    return images


def scale_contrast(images: Tensor, rng: np.random.Generator, share: Share | None = None) -> Tensor:
    """Stretch intensities around each channel's mean, then clip them to the range they had."""
    chosen = _picked(rng, images, share, CONTRAST_PROBABILITY)
    if chosen is not None:
        picked = images[chosen.rows]
        axes = tuple(range(2, picked.ndim))
        mean = picked.mean(axes, keepdim=True)
        low, high = picked.amin(axes, keepdim=True), picked.amax(axes, keepdim=True)
        stretched = torch.lerp(mean, picked, _per_sample(rng, CONTRAST_FACTOR, chosen, images))
        images[chosen.rows] = stretched.clamp_(low, high)
    return images


def lower_resolution(images: Tensor, rng: np.random.Generator, share: Share | None = None) -> Tensor:
    """Throw away resolution: nearest-neighbour to a coarser grid, linear back; the zoom is drawn per channel."""
    size = images.shape[2:]
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    pairs, here = _chosen_channels(rng, images, share, LOW_RESOLUTION_PROBABILITY)
    zooms = rng.uniform(*LOW_RESOLUTION_ZOOM, size=len(pairs))
    for (sample, channel), zoom in zip(pairs[here].tolist(), zooms[here].tolist(), strict=True):
        coarse_size = [max(1, round(length * zoom)) for length in size]
        coarse = functional.interpolate(images[sample, channel][None, None], coarse_size, mode="nearest-exact")
        images[sample, channel] = functional.interpolate(coarse, size, mode=mode)[0, 0]
    return images


def gamma(
    images: Tensor, rng: np.random.Generator, share: Share | None = None, *, probability: float, inverted: bool
) -> Tensor:
    """Bend intensities by a power law on their own range, keeping each channel's mean and standard deviation."""
    chosen = _picked(rng, images, share, probability)
    if chosen is not None:
        picked = -images[chosen.rows] if inverted else images[chosen.rows]
        axes = tuple(range(2, picked.ndim))
        mean, std = _moments(picked)
        low, high = picked.amin(axes, keepdim=True), picked.amax(axes, keepdim=True)
        span = (high - low).clamp_min_(STD_EPSILON)
        # a power by way of logarithms: in half the time of ``pow_`` on a CPU
        bent = picked.sub_(low).div_(span).log2_().mul_(_per_sample(rng, GAMMA_EXPONENT, chosen, images)).exp2_()
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

"""Turn the patches that were read into a training batch, on the device that trains.

Transforms, their order and their probabilities follow nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021):
pose, noise, blur, brightness, contrast, low resolution, two gammas, mirroring. Every transform is a tensor program over
the whole batch (batch, channels, *size) that touches only the samples it was drawn for. Decisions come from a numpy
generator, so they are the same on every device; the noise itself is drawn on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nnlite.training.patches import Patch

NOISE_PROBABILITY, NOISE_SIGMA = 0.1, (0.0, 0.1)
BLUR_PROBABILITY, BLUR_SIGMA_VOXELS = 0.2, (0.5, 1.0)
BRIGHTNESS_PROBABILITY, BRIGHTNESS_FACTOR = 0.15, (0.75, 1.25)
CONTRAST_PROBABILITY, CONTRAST_FACTOR = 0.15, (0.75, 1.25)
LOW_RESOLUTION_PROBABILITY, LOW_RESOLUTION_ZOOM = 0.25, (0.5, 1.0)
INVERTED_GAMMA_PROBABILITY, GAMMA_PROBABILITY, GAMMA_EXPONENT = 0.1, 0.3, (0.7, 1.5)
MIRROR_PROBABILITY = 0.5
CHANNEL_PROBABILITY = 0.5  # blur and low resolution befall each channel of a chosen sample with this probability
BLUR_RADIUS = 3  # voxels: three standard deviations of the widest blur
STD_EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the network is trained on: images (batch, channels, *size) float32, labels (batch, *size) int64 indices.

    ``previous`` (batch, *size) int64 holds the low-resolution prediction that a cascade gets as input.
    """

    images: Tensor
    labels: Tensor
    previous: Tensor | None = None


def assemble(patches: Sequence[Patch], patch_size: Sequence[int], device: torch.device) -> Batch:
    """Move patches to the device, resample those with a pose, and stack them."""
    images, labels, previous = [], [], []
    for patch in patches:
        image = torch.from_numpy(patch.image).to(device, torch.float32)
        maps = [torch.from_numpy(patch.label).to(device, torch.int64)]
        if patch.previous is not None:
            maps.append(torch.from_numpy(patch.previous).to(device, torch.int64))
        if patch.pose is not None:
            grid = sampling_grid(patch.pose, patch_size, image.shape[1:], device)
            image = functional.grid_sample(image[None], grid, padding_mode="border", align_corners=True)[0]
            maps = [sample_labels(one, grid) for one in maps]
        images.append(image)
        labels.append(maps[0])
        previous += maps[1:]
    return Batch(
        images=torch.stack(images), labels=torch.stack(labels), previous=torch.stack(previous) if previous else None
    )


def sampling_grid(
    pose: np.ndarray, patch_size: Sequence[int], region_size: Sequence[int], device: torch.device
) -> Tensor:
    """Where each patch voxel lies in the region that was read, as ``grid_sample`` wants it: (1, *patch, ndim), x first.

    Patch and region share their centre; -1 and 1 are the centres of the first and last voxel of either.
    """
    patch_half, region_half = ((np.maximum(size, 2) - 1) / 2 for size in (patch_size, region_size))
    matrix = pose * patch_half / region_half[:, None]
    affine = np.pad(matrix[::-1, ::-1], ((0, 0), (0, 1)))  # x first, and no shift
    theta = torch.from_numpy(affine).to(device, torch.float32)
    return functional.affine_grid(theta[None], [1, 1, *patch_size], align_corners=True)


def sample_labels(label: Tensor, grid: Tensor) -> Tensor:
    """Resample a label map (*region): linear for each label that is there, then the label that wins."""
    present = torch.unique(label)
    if len(present) == 1:
        return label.new_full(grid.shape[1:-1], int(present[0]))
    one_hot = (label[None] == present.view(-1, *(1,) * label.ndim)).float()
    shares = functional.grid_sample(one_hot[None], grid, padding_mode="border", align_corners=True)[0]
    return present[shares.argmax(dim=0)]


class Augmentation:
    """The intensity transforms and mirroring, applied to a whole batch in place of the original.

    ``reseed`` makes all that follows a function of its numbers. ``mirror_axes`` counts spatial axes from 0.
    """

    def __init__(self, *, mirror_axes: Sequence[int], device: torch.device):
        self.mirror_axes = tuple(mirror_axes)
        self.rng = np.random.default_rng()
        self.noise = torch.Generator(device)

    def reseed(self, *seed: int) -> None:
        """Make all that follows a function of these numbers."""
        self.rng = np.random.default_rng(seed)
        self.noise.manual_seed(int(self.rng.integers(2**62)))

    def __call__(self, batch: Batch) -> Batch:
        """Augment a batch; sizes and label values stay."""
        images = batch.images
        images = add_noise(images, self.rng, self.noise)
        images = blur(images, self.rng)
        images = scale_brightness(images, self.rng)
        images = scale_contrast(images, self.rng)
        images = lower_resolution(images, self.rng)
        images = gamma(images, self.rng, probability=INVERTED_GAMMA_PROBABILITY, inverted=True)
        images = gamma(images, self.rng, probability=GAMMA_PROBABILITY, inverted=False)
        return mirror(Batch(images=images, labels=batch.labels, previous=batch.previous), self.rng, self.mirror_axes)


def _chosen(rng: np.random.Generator, count: int, probability: float) -> list[int]:
    return np.flatnonzero(rng.random(count) < probability).tolist()


def _per_sample(rng: np.random.Generator, limits: tuple[float, float], like: Tensor) -> Tensor:
    """One uniform number per sample, shaped to broadcast over (samples, channels, *size)."""
    numbers = rng.uniform(*limits, size=len(like))
    return torch.as_tensor(numbers, dtype=like.dtype, device=like.device).view(-1, *(1,) * (like.ndim - 1))


def _chosen_channels(rng: np.random.Generator, images: Tensor, probability: float) -> list[tuple[int, int]]:
    """(sample, channel) pairs: samples by ``probability``, then each of their channels by a coin."""
    samples = _chosen(rng, len(images), probability)
    return [(s, c) for s in samples for c in _chosen(rng, images.shape[1], CHANNEL_PROBABILITY)]


def add_noise(images: Tensor, rng: np.random.Generator, noise: torch.Generator) -> Tensor:
    """Add Gaussian noise whose standard deviation is drawn per sample (images are normalised: std about 1)."""
    if chosen := _chosen(rng, len(images), NOISE_PROBABILITY):
        picked = images[chosen]
        sigma = _per_sample(rng, NOISE_SIGMA, picked)
        drawn = torch.randn(picked.shape, generator=noise, device=images.device)
        images[chosen] = picked + sigma * drawn
    return images


def blur(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Gaussian blur, its width in voxels drawn per channel."""
    pairs = _chosen_channels(rng, images, BLUR_PROBABILITY)
    if pairs:
        samples, channels = map(list, zip(*pairs, strict=True))
        sigma = torch.as_tensor(rng.uniform(*BLUR_SIGMA_VOXELS, size=len(pairs)), dtype=images.dtype)
        images[samples, channels] = gaussian_blur(images[samples, channels], sigma.to(images.device))
    return images


def gaussian_blur(volumes: Tensor, sigma: Tensor) -> Tensor:
    """Blur volumes (n, *size), each with its own standard deviation in voxels; borders are repeated."""
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=volumes.device, dtype=volumes.dtype)
    kernels = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    for axis in range(1, volumes.ndim):
        moved = volumes.movedim(axis, -1)
        lines = moved.reshape(len(volumes), -1, moved.shape[-1])
        padded = functional.pad(lines, (BLUR_RADIUS, BLUR_RADIUS), mode="replicate")
        windows = padded.unfold(-1, 2 * BLUR_RADIUS + 1, 1)
        blurred = torch.einsum("nlwk,nk->nlw", windows, kernels)
        volumes = blurred.reshape(moved.shape).movedim(-1, axis)
    return volumes


def scale_brightness(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Multiply all intensities of a sample by one factor."""
    if chosen := _chosen(rng, len(images), BRIGHTNESS_PROBABILITY):
        picked = images[chosen]
        images[chosen] = picked * _per_sample(rng, BRIGHTNESS_FACTOR, picked)
    return images


def scale_contrast(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Stretch intensities around each channel's mean, then clip them to the range they had."""
    if chosen := _chosen(rng, len(images), CONTRAST_PROBABILITY):
        picked = images[chosen]
        axes = tuple(range(2, picked.ndim))
        mean = picked.mean(axes, keepdim=True)
        low, high = picked.amin(axes, keepdim=True), picked.amax(axes, keepdim=True)
        stretched = mean + (picked - mean) * _per_sample(rng, CONTRAST_FACTOR, picked)
        images[chosen] = torch.minimum(torch.maximum(stretched, low), high)
    return images


def lower_resolution(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Throw away resolution: nearest-neighbour to a coarser grid, linear back; the zoom is drawn per channel."""
    size = images.shape[2:]
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    for sample, channel in _chosen_channels(rng, images, LOW_RESOLUTION_PROBABILITY):
        zoom = rng.uniform(*LOW_RESOLUTION_ZOOM)
        coarse_size = [max(1, round(length * zoom)) for length in size]
        coarse = functional.interpolate(images[sample, channel][None, None], coarse_size, mode="nearest-exact")
        images[sample, channel] = functional.interpolate(coarse, size, mode=mode)[0, 0]
    return images


def gamma(images: Tensor, rng: np.random.Generator, *, probability: float, inverted: bool) -> Tensor:
    """Bend intensities by a power law on their own range, keeping each channel's mean and standard deviation."""
    if chosen := _chosen(rng, len(images), probability):
        picked = -images[chosen] if inverted else images[chosen]
        axes = tuple(range(2, picked.ndim))
        mean, std = picked.mean(axes, keepdim=True), picked.std(axes, keepdim=True)
        low, high = picked.amin(axes, keepdim=True), picked.amax(axes, keepdim=True)
        span = (high - low).clamp_min(STD_EPSILON)
        bent = ((picked - low) / span) ** _per_sample(rng, GAMMA_EXPONENT, picked)
        bent = (bent - bent.mean(axes, keepdim=True)) / bent.std(axes, keepdim=True).clamp_min(STD_EPSILON)
        bent = bent * std + mean
        images[chosen] = -bent if inverted else bent
    return images


def mirror(batch: Batch, rng: np.random.Generator, axes: Sequence[int]) -> Batch:
    """Flip each sample along each of the axes with probability 1/2, image and labels alike."""
    flips = rng.random((len(batch.images), len(axes))) < MIRROR_PROBABILITY
    for sample, flipped in enumerate(flips):
        spatial = [axis for axis, flip in zip(axes, flipped, strict=True) if flip]
        if spatial:
            for volumes, leading in ((batch.images, 1), (batch.labels, 0), (batch.previous, 0)):
                if volumes is not None:
                    volumes[sample] = volumes[sample].flip([axis + leading for axis in spatial])
    return batch

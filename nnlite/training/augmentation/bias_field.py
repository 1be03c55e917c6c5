"""The slow change of brightness that coils leave in MR, and uneven light in microscopy: a smooth positive factor.

The logarithm of the field is a polynomial of third order, as in a model by which such fields are estimated (Van Leemput
et al., IEEE Transactions on Medical Imaging 18, 885-896, 1999).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnlite.training.augmentation.chance import Chance
from nnlite.training.augmentation.fields import power_matrix, smooth_field

ORDER = 3
SMALLEST_DIVISOR = 1e-8


def multiply_bias_field(images: Tensor, chance: Chance) -> Tensor:
    """Multiply the channels of a sample that are no CT by one field; the number drawn is its largest logarithm.

    Intensities are normalised, so that 0 is not black: the darkest voxel of a channel takes its place. Voxels of
    exactly 0 stay, for they lie outside of the image or of its non-zero mask.
    """
    for row, rng in chance.own():
        field = bias_field(rng, images.shape[2:], rng.uniform(*chance.limits), images.device)
        for number, channel in enumerate(images[row]):
            if not chance.imaging.is_ct(number):
                black = channel.amin()
                channel.copy_(torch.where(channel == 0, channel, (channel - black).mul_(field).add_(black)))
    return images


def bias_field(rng: np.random.Generator, size: tuple[int, ...], largest: float, device: torch.device) -> Tensor:
    """A field (*size) between exp(-largest) and exp(largest), whose logarithm has a mean of 0."""
    powers = np.indices((ORDER + 1,) * len(size)).sum(axis=0)
    coefficients = np.where((powers > 0) & (powers <= ORDER), rng.uniform(-1, 1, size=powers.shape), 0)
    logarithm = smooth_field(coefficients, [power_matrix(length, ORDER) for length in size], device)
    logarithm = logarithm - logarithm.mean()
    return logarithm.mul_(largest / logarithm.abs().amax().clamp_min_(SMALLEST_DIVISOR)).exp_()

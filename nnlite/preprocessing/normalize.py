"""Bring intensities to a common scale, channel by channel, before the image is resampled.

The planner chose the scheme from the name of the channel; here it is only carried out. Schemes and constants follow
nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nnlite.errors import ImageError, PlanError
from nnlite.planning.fingerprint import IntensityProperties

SMALLEST_DIVISOR = 1e-8  # a constant channel becomes 0 instead of a division by zero
RGB_MAX = 255  # 8 bits per colour


def normalize(
    image: Tensor,
    schemes: Sequence[str],
    intensities: Sequence[IntensityProperties],
    *,
    mask: Tensor | None = None,
    use_mask: Sequence[bool] = (),
) -> Tensor:
    """Normalise each channel of ``image`` (channels, z, y, x) by its scheme; a new float32 tensor.

    - ``ct``: clipped to the dataset's percentiles 0.5 and 99.5, then (x - mean) / std of the dataset
    - ``zscore``: (x - mean) / std of this channel; where ``use_mask`` is set, of its voxels in ``mask`` (z, y, x)
      alone, and those outside keep their value (0 outside of the non-zero mask)
    - ``rescale_to_0_1``: the channel's minimum becomes 0 and its maximum 1
    - ``rgb_to_0_1``: divided by 255; an ``ImageError`` if a value is not between 0 and 255
    - ``none``: unchanged

    >>> normalize(torch.tensor([[[[0.0, 51.0, 255.0]]]]), ["rgb_to_0_1"], [])
    tensor([[[[0.0000, 0.2000, 1.0000]]]])
    """
    normalized = image.to(torch.float32, copy=True)
    for index, (channel, scheme) in enumerate(zip(normalized, schemes, strict=True)):
        if scheme == "ct":
            _ct(channel, intensities[index])
        elif scheme == "zscore" and mask is not None and use_mask[index]:
            channel[mask] = _zscore(channel[mask])
        elif scheme in _PER_CASE:
            channel.copy_(_PER_CASE[scheme](channel))
        else:
            raise PlanError(f"unknown normalisation {scheme!r}; there are ct, {', '.join(_PER_CASE)}")
    return normalized


def _ct(channel: Tensor, dataset: IntensityProperties) -> None:
    channel.clamp_(dataset.percentile_00_5, dataset.percentile_99_5)
    channel.sub_(dataset.mean).div_(max(dataset.std, SMALLEST_DIVISOR))


def _zscore(values: Tensor) -> Tensor:
    if values.numel() == 0:
        return values
    # summed in double precision: float32 loses digits over the voxels of a large volume
    mean = values.mean(dtype=torch.float64)
    centred = values - mean.float()
    std = centred.square().mean(dtype=torch.float64).sqrt().clamp_min(SMALLEST_DIVISOR)
    return centred / std.float()


def _rescale(channel: Tensor) -> Tensor:
    lowest = channel.min()
    return (channel - lowest) / (channel.max() - lowest).clamp_min(SMALLEST_DIVISOR)


def _rgb(channel: Tensor) -> Tensor:
    lowest, highest = channel.min().item(), channel.max().item()
    if lowest < 0 or highest > RGB_MAX:
        raise ImageError(
            f"a colour channel holds values from {lowest:g} to {highest:g}, colours go from 0 to {RGB_MAX}; store the "
            'image with 8 bits per colour, or name its channels other than rgb under "channels" in nnlite.json'
        )
    return channel / RGB_MAX


_PER_CASE: dict[str, Callable[[Tensor], Tensor]] = {
    "zscore": _zscore,
    "rescale_to_0_1": _rescale,
    "rgb_to_0_1": _rgb,
    "none": lambda channel: channel,
}

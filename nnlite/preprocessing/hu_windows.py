"""Make the channels that a plan adds to a CT, from its Hounsfield units as they are in the file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnlite.planning.hu_channels import HuChannel


def hu_windows(image: Tensor, channels: Sequence[str], wanted: Sequence[HuChannel]) -> Tensor:
    """The ``wanted`` channels (wanted, z, y, x) float32 of an ``image`` (channels, z, y, x) in Hounsfield units.

    >>> lung = HuChannel(source="CT", name="lung", kind="window", low_hu=-1000.0, high_hu=0.0)
    >>> bone = HuChannel(source="CT", name="bone", kind="mask", low_hu=200.0, high_hu=None)
    >>> hu_windows(torch.tensor([[[[-1000.0, -500.0, 300.0]]]]), ["CT"], [lung, bone]).flatten(1)
    tensor([[-1.,  0.,  1.],
            [ 0.,  0.,  1.]])
    """
    made = torch.empty((len(wanted), *image.shape[1:]), dtype=torch.float32, device=image.device)
    for target, one in zip(made, wanted, strict=True):
        hu, (low, high) = image[one.scan_among(channels)], one.limits_hu
        if one.kind == "mask":
            target.copy_((hu >= low) & (hu <= high))
        else:
            target.copy_(hu).clamp_(low, high).sub_((low + high) / 2).mul_(2 / (high - low))
    return made

"""What a network sees besides the image: in a cascade, the labels that the low-resolution stage predicted.

Used alike where patches are drawn for training and where whole cases are predicted.
"""

from __future__ import annotations

import torch
from torch import Tensor


def stack_previous(image: Tensor, previous: Tensor, count: int) -> Tensor:
    """Append the previous stage's labels to the image channels, one channel of zeros and ones per foreground label.

    ``image`` is (..., channels, z, y, x) and ``previous`` (..., z, y, x) holds indices of ``count`` labels, background
    included; the result is (..., channels + count - 1, z, y, x). Cascades are 3D, so there are always three axes.

    >>> stack_previous(torch.zeros(1, 1, 1, 3), torch.tensor([[[0, 1, 2]]]), count=3)[:, 0, 0]
    tensor([[0., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    labels = torch.arange(1, count, device=previous.device).view(-1, 1, 1, 1)
    one_hot = previous.unsqueeze(-4) == labels
    return torch.cat([image, one_hot.to(image.dtype)], dim=-4)

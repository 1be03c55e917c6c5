"""A first layer that looks at several scales at once: kernels of 3, 5 and 7 voxels beside each other.

Parallel kernels of different size, put together, are the idea of Inception (Szegedy et al., CVPR 2015), which it
repeats throughout a network; here it stands once, before the first stage, where structures are still as large as the
image shows them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnlite.networks.blocks import ConvolutionBlock
from nnlite.planning.architectures.encoder import stem_branches


class MultiScaleStem(nn.Module):
    """Blocks of several kernels over the same input, which share out ``features``; flat axes stay flat."""

    def __init__(self, channels: int, features: int, kernel: Sequence[int]):
        super().__init__()
        self.branches = nn.ModuleList(
            ConvolutionBlock(channels, width, wide) for width, wide in stem_branches(features, kernel)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, *size) to (batch, features, *size)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)

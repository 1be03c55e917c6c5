"""The planned U-Net with attention gates: what the encoder hands over is weighted by where to look.

Oktay et al., MIDL 2018. A gate compares the skip's maps (theta) with those of the coarser scale (phi), both at the
coarser scale; psi makes of their rectified sum one weight per voxel between 0 and 1, which is resampled to the skip.
As in the paper the skip of full resolution has no gate: its features are too plain to be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnlite.networks.blocks import convolution, initialize
from nnlite.networks.unet import UNet
from nnlite.planning.topology import Topology

RESAMPLING = {2: "bilinear", 3: "trilinear"}  # by number of axes


class AttentionGate(nn.Module):
    """Weights a skip of ``features`` by ``gating`` features of a scale that is ``stride`` times coarser."""

    def __init__(self, features: int, gating: int, stride: Sequence[int]):
        super().__init__()
        ones = (1,) * len(stride)
        self.theta = convolution(features, features, stride, stride, bias=False)
        self.phi = convolution(gating, features, ones, ones)
        self.psi = convolution(features, 1, ones, ones)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """The skip (batch, features, *size) times its weights; ``below`` is (batch, gating, *size / stride)."""
        compared = functional.relu(self.theta(skip) + self.phi(below), inplace=True)
        weights = torch.sigmoid(self.psi(compared))
        mode = RESAMPLING[skip.ndim - 2]
        resampled = functional.interpolate(weights, skip.shape[2:], mode=mode, align_corners=False)
        return skip * resampled.to(skip.dtype)  # on a GPU autocast resamples in float32, which would spread


class AttentionUNet(UNet):
    """The U-Net with a gate on every skip but that of full resolution."""

    def __init__(self, topology: Topology, *, channels: int, labels: int):
        super().__init__(topology, channels=channels, labels=labels)
        features = topology.features
        self.gates = nn.ModuleList(
            AttentionGate(features[stage], features[stage + 1], topology.strides[stage + 1])
            for stage in range(topology.stages - 2, 0, -1)
        )
        initialize(self.gates)

    def decode(self, level: int, below: Tensor, skip: Tensor) -> Tensor:
        """One level of the decoder, counted from the lowest."""
        if level < len(self.gates):
            skip = self.gates[level](skip, below)
        return super().decode(level, below, skip)

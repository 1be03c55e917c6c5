"""The planned U-Net: plain or residual encoder, in two or three dimensions, with deep supervision.

U-Net: Ronneberger et al., MICCAI 2015. Strides, kernels, widths and depth come from a ``Topology`` as nnU-Net plans it
(Isensee et al., Nature Methods 18, 203-211, 2021; residual encoder presets: Isensee et al., MICCAI 2024).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from nnlite.networks.blocks import (
    CONVOLUTION,
    TRANSPOSED_CONVOLUTION,
    ConvolutionBlock,
    ResidualBlock,
    initialize,
)
from nnlite.planning.topology import Topology


class UNet(nn.Module):
    """Encoder, decoder with skip connections, and a segmentation head at every level of the decoder.

    In training ``forward`` returns the logits of all levels, full resolution first (deep supervision); in evaluation it
    returns those of full resolution alone. Sizes must be divisible by ``topology.divisor``.
    """

    def __init__(self, topology: Topology, *, channels: int, labels: int):
        super().__init__()
        ndim = topology.ndim
        features = topology.features
        self.stem = _stem(topology, channels)
        widths = (features[0] if topology.encoder == "residual" else channels, *features)
        self.encoder = nn.ModuleList(
            _encoder_stage(topology, stage, inputs, outputs) for stage, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.heads = nn.ModuleList()
        for stage in range(topology.stages - 2, -1, -1):  # from the level above the bottleneck to full resolution
            below, here = features[stage + 1], features[stage]
            stride, kernel = topology.strides[stage + 1], topology.kernels[stage]
            self.upsample.append(TRANSPOSED_CONVOLUTION[ndim](below, here, stride, stride))
            count = topology.decoder_convolutions[stage]
            inputs = (2 * here, *(here,) * (count - 1))
            self.decoder.append(nn.Sequential(*(ConvolutionBlock(width, here, kernel) for width in inputs)))
            self.heads.append(CONVOLUTION[ndim](here, labels, 1))
        initialize(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for an image (batch, channels, *size): (batch, labels, *size), or a list of them in training."""
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        logits = []
        last = len(self.decoder) - 1
        for level, (upsample, convolve, head) in enumerate(zip(self.upsample, self.decoder, self.heads, strict=True)):
            x = convolve(torch.cat((upsample(x), skips[-2 - level]), dim=1))
            if self.training or level == last:
                logits.append(head(x))
        return logits[::-1] if self.training else logits[0]


def _stem(topology: Topology, channels: int) -> nn.Module:
    if topology.encoder == "residual":
        return ConvolutionBlock(channels, topology.features[0], topology.kernels[0])
    return nn.Identity()


def _encoder_stage(topology: Topology, stage: int, inputs: int, outputs: int) -> nn.Module:
    block = ResidualBlock if topology.encoder == "residual" else ConvolutionBlock
    kernel, stride = topology.kernels[stage], topology.strides[stage]
    ones = (1,) * topology.ndim
    first = block(inputs, outputs, kernel, stride)
    return nn.Sequential(
        first, *(block(outputs, outputs, kernel, ones) for _ in range(topology.encoder_blocks[stage] - 1))
    )

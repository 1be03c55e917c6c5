"""The planned U-Net in two or three dimensions, with deep supervision: stages of plain convolutions.

U-Net: Ronneberger et al., MICCAI 2015. Strides, kernels, widths and depth come from a ``Topology`` as nnU-Net plans it
(Isensee et al., Nature Methods 18, 203-211, 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnlite.networks.blocks import CONVOLUTION, TRANSPOSED_CONVOLUTION, ConvolutionBlock, initialize, run_stage
from nnlite.planning.topology import Topology


class UNet(nn.Module):
    """Encoder, decoder with skip connections, and a segmentation head at every level of the decoder.

    In training ``forward`` returns the logits of all levels, full resolution first (deep supervision); in evaluation it
    returns those of full resolution alone. Sizes must be divisible by ``topology.divisor``. Relatives of the U-Net
    override ``block`` and ``make_stem``.
    """

    block: Callable[..., nn.Module] = ConvolutionBlock

    def __init__(self, topology: Topology, *, channels: int, labels: int):
        super().__init__()
        ndim = topology.ndim
        features = topology.features
        self.checkpointing = topology.checkpointing
        self.stem, width = self.make_stem(topology, channels)
        self.encoder = nn.ModuleList(
            self.encoder_stage(topology, stage, inputs, outputs)
            for stage, (inputs, outputs) in enumerate(pairwise((width, *features)))
        )
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.heads = nn.ModuleList()
        for stage in range(topology.stages - 2, -1, -1):  # from the level above the bottleneck to full resolution
            below, here = features[stage + 1], features[stage]
            stride = topology.strides[stage + 1]
            self.upsample.append(TRANSPOSED_CONVOLUTION[ndim](below, here, stride, stride))
            self.decoder.append(self.decoder_stage(topology, stage))
            self.heads.append(CONVOLUTION[ndim](here, labels, 1))
        initialize(self)

    def make_stem(self, topology: Topology, channels: int) -> tuple[nn.Module, int]:
        """What stands before the first stage, and the features that it puts out."""
        return nn.Identity(), channels

    def encoder_stage(self, topology: Topology, stage: int, inputs: int, outputs: int) -> nn.Module:
        """The blocks of one resolution; the first of them reduces the one above."""
        kernel, ones = topology.kernels[stage], (1,) * topology.ndim
        first = self.block(inputs, outputs, kernel, topology.strides[stage])
        rest = (self.block(outputs, outputs, kernel, ones) for _ in range(topology.encoder_blocks[stage] - 1))
        return nn.Sequential(first, *rest)

    def decoder_stage(self, topology: Topology, stage: int) -> nn.Module:
        """The convolutions of one resolution on the way up, over the upsampled maps and the encoder's."""
        here, kernel = topology.features[stage], topology.kernels[stage]
        widths = (2 * here, *(here,) * (topology.decoder_convolutions[stage] - 1))
        return nn.Sequential(*(ConvolutionBlock(width, here, kernel) for width in widths))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for an image (batch, channels, *size): (batch, labels, *size), or a list of them in training."""
        x = run_stage(self.checkpointing, self.stem, x)
        skips = []
        for stage in self.encoder:
            x = run_stage(self.checkpointing, stage, x)
            skips.append(x)
        logits = []
        last = len(self.decoder) - 1
        for level, head in enumerate(self.heads):
            x = run_stage(self.checkpointing, self.decode, level, x, skips[-2 - level])
            if self.training or level == last:
                logits.append(head(x))
        return logits[::-1] if self.training else logits[0]

    def decode(self, level: int, below: Tensor, skip: Tensor) -> Tensor:
        """One level of the decoder, counted from the lowest."""
        decoded: Tensor = self.decoder[level](torch.cat((self.upsample[level](below), skip), dim=1))
        return decoded

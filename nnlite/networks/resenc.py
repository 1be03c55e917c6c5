"""The planned U-Net with a deep residual encoder and a shallow decoder, as in nnU-Net's presets M, L and XL.

Isensee et al., MICCAI 2024 (nnU-Net Revisited); a stem of one convolution, then stages of residual blocks.
"""

from __future__ import annotations

from torch import nn

from nnlite.networks.blocks import ConvolutionBlock, ResidualBlock
from nnlite.networks.unet import UNet
from nnlite.planning.topology import Topology


class ResidualEncoderUNet(UNet):
    """The U-Net with residual blocks in its encoder."""

    block = ResidualBlock

    def make_stem(self, topology: Topology, channels: int) -> tuple[nn.Module, int]:
        """A block of the width of full resolution."""
        width = topology.features[0]
        return ConvolutionBlock(channels, width, topology.kernels[0]), width

"""The planned V-Net: every stage adds to its input what its convolutions make of it, on the way down and up again.

Milletari et al., 3DV 2016: 1, 2, 3, 3, 3 convolutions per stage, parametric ReLUs, strided convolutions between stages;
on the way up a stage works on the upsampled maps and the encoder's side by side, and keeps that width. The authors'
kernels have 5 voxels along each axis; here they are those of the ``Topology``. Instance normalisation and heads at all
levels are the house's, and the image is projected to the width of the first stage instead of being repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nnlite.networks.blocks import TRANSPOSED_CONVOLUTION, InstanceNorm, convolution
from nnlite.networks.unet import UNet
from nnlite.planning.topology import Topology


class ResidualStage(nn.Module):
    """Convolutions, each normalised and all but the last activated; their input is added, then activated."""

    def __init__(self, inputs: int, features: int, kernel: Sequence[int], count: int):
        super().__init__()
        ones = (1,) * len(kernel)
        layers: list[nn.Module] = []
        for number in range(count):
            width = inputs if number == 0 else features
            layers += [convolution(width, features, kernel, ones), InstanceNorm(features), nn.PReLU(features)]
        self.convolutions = nn.Sequential(*layers[:-1])
        self.skip = nn.Identity() if inputs == features else convolution(inputs, features, ones, ones, bias=False)
        self.activation = nn.PReLU(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, *size) to (batch, features, *size)."""
        added: Tensor = self.convolutions(x) + self.skip(x)
        return self.activation(added)


class VNet(UNet):
    """The U-Net with residual stages in encoder and decoder."""

    def encoder_stage(self, topology: Topology, stage: int, inputs: int, outputs: int) -> nn.Module:
        """A strided convolution to the stage's size and width, and the residual stage; the first has the image."""
        kernel, stride = topology.kernels[stage], topology.strides[stage]
        if stage == 0:
            return ResidualStage(inputs, outputs, kernel, topology.encoder_blocks[0])
        down = (convolution(inputs, outputs, stride, stride), InstanceNorm(outputs), nn.PReLU(outputs))
        return nn.Sequential(*down, ResidualStage(outputs, outputs, kernel, topology.encoder_blocks[stage]))

    def decoded_width(self, topology: Topology, stage: int) -> int:
        """Features that a level puts out: twice the encoder's, the bottleneck's alone as many."""
        return topology.features[stage] * (1 if stage == topology.stages - 1 else 2)

    def upsampling(self, topology: Topology, stage: int) -> nn.Module:
        """A transposed convolution from the level below, normalised and activated."""
        below, here, stride = (
            self.decoded_width(topology, stage + 1),
            topology.features[stage],
            topology.strides[stage + 1],
        )
        return nn.Sequential(
            TRANSPOSED_CONVOLUTION[topology.ndim](below, here, stride, stride), InstanceNorm(here), nn.PReLU(here)
        )

    def decoder_stage(self, topology: Topology, stage: int) -> nn.Module:
        """A residual stage over the upsampled maps and the encoder's."""
        width = self.decoded_width(topology, stage)
        return ResidualStage(width, width, topology.kernels[stage], topology.decoder_convolutions[stage])

"""The U-Net of 2015, as it was published: convolutions without padding, max pooling, ReLU, and no normalisation.

Ronneberger et al., MICCAI 2015. In three dimensions it is a network of the same kind with the depth of its sibling, the
3D U-Net (Cicek et al., MICCAI 2016), not with its batch normalisation and widths: there features double before each max
pooling, here a stage has one width. With nothing invented at borders, the network answers for the centre of what it
sees only: 388 x 388 of 572 x 572 pixels (``Topology.margin`` tells how much less). With 64 to 1024 features in 2D it
has 31.0 million parameters. docs/decisions/valid-convolutions.md tells what nnlite makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnlite.networks.blocks import CONVOLUTION, CONVOLUTIONS, TRANSPOSED_CONVOLUTION, Dropout, run_stage
from nnlite.planning.topology import Topology

MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}  # by number of spatial axes
DROPOUT = 0.5  # at the end of the contracting path; the paper gives no number, its published network has this one


class UNet2015(nn.Module):
    """Contracting path, expanding path with cropped skips, and one head at full resolution.

    ``forward`` maps (batch, channels, *size) to (batch, labels, *size - 2 * topology.margin); in training it returns
    them as a list of one. Sizes are those of ``Topology.input_size``: every max pooling is to get what it can divide.
    """

    def __init__(self, topology: Topology, *, channels: int, labels: int):
        super().__init__()
        ndim, features = topology.ndim, topology.features
        self.checkpointing = topology.checkpointing
        self.encoder = nn.ModuleList(
            _convolutions(topology, stage, inputs, outputs, topology.encoder_blocks[stage])
            for stage, (inputs, outputs) in enumerate(pairwise((channels, *features)))
        )
        self.pool = nn.ModuleList(MAX_POOL[ndim](stride, stride) for stride in topology.strides[1:])
        self.dropout = Dropout(DROPOUT)
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for stage in range(topology.stages - 2, -1, -1):  # from the level above the bottleneck to full resolution
            below, here, stride = features[stage + 1], features[stage], topology.strides[stage + 1]
            self.upsample.append(TRANSPOSED_CONVOLUTION[ndim](below, here, stride, stride))
            count = topology.decoder_convolutions[stage]
            self.decoder.append(_convolutions(topology, stage, 2 * here, here, count))
        self.head = CONVOLUTION[ndim](features[0], labels, 1)
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of the centre of an image, (batch, labels, *smaller size), or a list of them in training."""
        skips = []
        for stage, convolve in enumerate(self.encoder):
            if stage > 0:
                x = self.pool[stage - 1](x)
            x = run_stage(self.checkpointing, convolve, x)
            skips.append(x)
        x = self.dropout(x)
        for level, (upsample, convolve) in enumerate(zip(self.upsample, self.decoder, strict=True)):
            x = upsample(x)
            x = torch.cat((centre(skips[-2 - level], x.shape[2:]), x), dim=1)
            x = run_stage(self.checkpointing, convolve, x)
        logits = self.head(x)
        return [logits] if self.training else logits


def centre(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of maps (..., *larger), of this size and as a view; as much is left out on either side.

    >>> centre(torch.arange(6).view(1, 1, 6), (2,))
    tensor([[[2, 3]]])
    """
    for axis, part in enumerate(size, start=-len(size)):
        maps = maps.narrow(axis, (maps.shape[axis] - part) // 2, part)
    return maps


def _convolutions(topology: Topology, stage: int, inputs: int, outputs: int, count: int) -> nn.Sequential:
    """So many convolutions without padding, each with a ReLU behind it."""
    layers: list[nn.Module] = []
    for width in (inputs, *(outputs,) * (count - 1)):
        layers += [CONVOLUTION[topology.ndim](width, outputs, topology.kernels[stage]), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _initialize(network: nn.Module) -> None:
    """Gaussian of deviation sqrt(2 / N), where N inputs meet in an output (He et al., ICCV 2015); biases 0.

    The 2 makes up for the half that a ReLU takes away: without one behind them, upsampling and head have a 1 instead.
    """
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            # Kernel and stride of a transposed convolution agree: in an output of it one voxel meets.
            upsamples = isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d)
            taps = 1 if upsamples else math.prod(module.kernel_size)
            gain = 1 if upsamples or taps == 1 else 2
            nn.init.normal_(module.weight, std=math.sqrt(gain / (module.in_channels * taps)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)

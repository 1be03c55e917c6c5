"""U-Net++: the skips of a U-Net filled with convolutions of their own, so that it holds U-Nets of every depth.

Zhou et al., DLMIA 2018, and IEEE Transactions on Medical Imaging 39, 1856-1867, 2020. Node X(i, j) is the j-th of the
nodes at resolution i: X(i, 0) is the encoder, every other one sees all nodes before it in its row and, upsampled, its
neighbour X(i + 1, j - 1) below. X(0, j) ends a U-Net of depth j. Each of them has a head and is told the truth at full
resolution; so a shallower one may answer alone, and all that lies beyond it need not be computed.

Strides, kernels and widths come from a ``Topology``; blocks are nnlite's own (strided convolutions, instance
normalisation, leaky ReLU), where the paper has max pooling and batch normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnlite.networks.blocks import CONVOLUTION, TRANSPOSED_CONVOLUTION, ConvolutionBlock, initialize, run_stage
from nnlite.planning.topology import Topology


class Node(nn.Module):
    """X(i, j) for j above 0: what lies below is upsampled, joined to the row so far, and convolved."""

    def __init__(self, topology: Topology, stage: int, column: int):
        super().__init__()
        below, here = topology.features[stage + 1], topology.features[stage]
        stride, kernel = topology.strides[stage + 1], topology.kernels[stage]
        self.upsample = TRANSPOSED_CONVOLUTION[topology.ndim](below, here, stride, stride)
        widths = ((column + 1) * here, *(here,) * (topology.decoder_convolutions[stage] - 1))
        self.convolve = nn.Sequential(*(ConvolutionBlock(width, here, kernel) for width in widths))

    def forward(self, row: Sequence[Tensor], below: Tensor) -> Tensor:
        """The next map of a row (batch, features, *size), from those before it and the last one of the row below."""
        joined: Tensor = self.convolve(torch.cat((*row, self.upsample(below)), dim=1))
        return joined


class UNetPlusPlus(nn.Module):
    """Encoder, nested nodes, and a head at every node of the first row but the encoder's.

    In training ``forward`` returns the logits of all depths, all at full resolution, the deepest first. In evaluation
    it returns those of ``depth`` alone, from 1 to ``deepest``, which it is at first. Sizes must be divisible by
    ``topology.divisor``.
    """

    def __init__(self, topology: Topology, *, channels: int, labels: int):
        super().__init__()
        self.depth = self.deepest = topology.stages - 1
        self.checkpointing = topology.checkpointing
        features, kernels = topology.features, topology.kernels
        self.encoder = nn.ModuleList()
        inputs = channels
        for stage, outputs in enumerate(features):
            blocks = [ConvolutionBlock(inputs, outputs, kernels[stage], topology.strides[stage])]
            blocks += (
                ConvolutionBlock(outputs, outputs, kernels[stage]) for _ in range(topology.encoder_blocks[stage] - 1)
            )
            self.encoder.append(nn.Sequential(*blocks))
            inputs = outputs
        self.nodes = nn.ModuleDict(  # "i-j" is X(i, j)
            {
                f"{stage}-{column}": Node(topology, stage, column)
                for stage in range(self.deepest)
                for column in range(1, topology.stages - stage)
            }
        )
        self.heads = nn.ModuleList(CONVOLUTION[topology.ndim](features[0], labels, 1) for _ in range(self.deepest))
        initialize(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for an image (batch, channels, *size): (batch, labels, *size), or a list of them in training."""
        deepest = self.deepest if self.training else self.depth
        rows: list[list[Tensor]] = []
        logits = []
        for depth in range(deepest + 1):  # each stage of the encoder is followed by all nodes that it makes possible
            x = run_stage(self.checkpointing, self.encoder[depth], x)
            rows.append([x])
            for stage in reversed(range(depth)):
                node = self.nodes[f"{stage}-{depth - stage}"]
                rows[stage].append(run_stage(self.checkpointing, node, tuple(rows[stage]), rows[stage + 1][-1]))
                if depth == deepest:
                    rows.pop()  # nothing else looks at the row below
            if depth > 0 and (self.training or depth == deepest):
                logits.append(self.heads[depth - 1](rows[0][-1]))
        return logits[::-1] if self.training else logits[0]

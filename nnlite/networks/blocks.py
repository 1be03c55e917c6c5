"""The parts that every U-Net of nnlite is made of, in two and three dimensions.

Convolution with bias, instance normalisation (eps 1e-5, affine), leaky ReLU 0.01: the block of nnU-Net (Isensee et al.,
Nature Methods 18, 203-211, 2021). The residual block is the "D" variant of ResNet (He et al., CVPR 2019): where the
stride changes the skip is pooled by averaging, where the width changes it passes a 1 x 1 convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

NEGATIVE_SLOPE = 0.01
NORM_EPSILON = 1e-5

# by number of spatial axes
CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
AVERAGE_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def convolution(
    inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], bias: bool = True
) -> nn.Module:
    """A 2D or 3D convolution (by the length of ``kernel``) padded so that stride 1 keeps the size."""
    padding = tuple((size - 1) // 2 for size in kernel)
    return CONVOLUTION[len(kernel)](inputs, outputs, tuple(kernel), tuple(stride), padding, bias=bias)


class InstanceNorm(nn.Module):
    """Instance normalisation with a learned scale and shift per feature, over maps of any number of axes.

    The same arithmetic as torch's own, to the bit. But torch's returns a view, and when an activation overwrites a
    view, its backward copies the gradient three times at full size: at the moment when a training step holds most.
    """

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each map of (batch, features, *size) by its own mean and variance."""
        samples, features = x.shape[:2]
        maps = x.reshape(1, samples * features, *x.shape[2:])
        scale, shift = self.weight.repeat(samples), self.bias.repeat(samples)
        normalized = functional.batch_norm(maps, None, None, scale, shift, training=True, eps=NORM_EPSILON)
        return torch.ops.aten._unsafe_view(normalized, x.shape)  # safe: nothing else knows ``normalized``


class ConvolutionBlock(nn.Sequential):
    """Convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] | None = None):
        super().__init__(
            convolution(inputs, outputs, kernel, stride or (1,) * len(kernel)),
            InstanceNorm(outputs),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        )


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the (pooled, projected) input."""

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int]):
        super().__init__()
        ndim = len(kernel)
        ones = (1,) * ndim
        self.first = ConvolutionBlock(inputs, outputs, kernel, stride)
        self.second = nn.Sequential(convolution(outputs, outputs, kernel, ones), InstanceNorm(outputs))
        skip: list[nn.Module] = []
        if any(step != 1 for step in stride):
            skip.append(AVERAGE_POOL[ndim](tuple(stride), tuple(stride)))
        if inputs != outputs:
            skip += [convolution(inputs, outputs, ones, ones, bias=False), InstanceNorm(outputs)]
        self.skip = nn.Sequential(*skip)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, *size) to (batch, outputs, *size / stride)."""
        return self.activation(self.second(self.first(x)) + self.skip(x))


def initialize(network: nn.Module) -> None:
    """He initialisation for leaky ReLU, biases 0, and residual blocks that start as their skip alone."""
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, ResidualBlock):
            last_norm = module.second[-1]
            nn.init.zeros_(last_norm.get_parameter("weight"))

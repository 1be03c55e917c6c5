"""The parts that every U-Net of nnlite is made of, in two and three dimensions.

Convolution with bias, instance normalisation (eps 1e-5, affine), leaky ReLU 0.01: the block of nnU-Net (Isensee et al.,
Nature Methods 18, 203-211, 2021). The residual block is the "D" variant of ResNet (He et al., CVPR 2019): where the
stride changes the skip is pooled by averaging, where the width changes it passes a 1 x 1 convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

NEGATIVE_SLOPE = 0.01
NORM_EPSILON = 1e-5

# by number of spatial axes
CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
INSTANCE_NORM: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
AVERAGE_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def convolution(
    inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], bias: bool = True
) -> nn.Module:
    """A 2D or 3D convolution (by the length of ``kernel``) padded so that stride 1 keeps the size."""
    padding = tuple((size - 1) // 2 for size in kernel)
    return CONVOLUTION[len(kernel)](inputs, outputs, tuple(kernel), tuple(stride), padding, bias=bias)


def instance_norm(features: int, ndim: int) -> nn.Module:
    """Instance normalisation with a learned scale and shift per feature."""
    return INSTANCE_NORM[ndim](features, eps=NORM_EPSILON, affine=True)


class ConvolutionBlock(nn.Sequential):
    """Convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] | None = None):
        super().__init__(
            convolution(inputs, outputs, kernel, stride or (1,) * len(kernel)),
            instance_norm(outputs, len(kernel)),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        )


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the (pooled, projected) input."""

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int]):
        super().__init__()
        ndim = len(kernel)
        ones = (1,) * ndim
        self.first = ConvolutionBlock(inputs, outputs, kernel, stride)
        self.second = nn.Sequential(convolution(outputs, outputs, kernel, ones), instance_norm(outputs, ndim))
        skip: list[nn.Module] = []
        if any(step != 1 for step in stride):
            skip.append(AVERAGE_POOL[ndim](tuple(stride), tuple(stride)))
        if inputs != outputs:
            skip += [convolution(inputs, outputs, ones, ones, bias=False), instance_norm(outputs, ndim)]
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

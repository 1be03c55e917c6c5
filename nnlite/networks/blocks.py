"""The parts that every U-Net of nnlite is made of, in two and three dimensions.

Convolution with bias, instance normalisation (eps 1e-5, affine), leaky ReLU 0.01: the block of nnU-Net (Isensee et al.,
Nature Methods 18, 203-211, 2021). The residual block is the "D" variant of ResNet (He et al., CVPR 2019): where the
stride changes the skip is pooled by averaging, where the width changes it passes a 1 x 1 convolution.

Where no gradient is wanted, float32 on a CPU takes shorter ways to the same numbers but for rounding: torch's own
choice of kernels is slow there for single windows (docs/decisions/cpu-windows.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

NEGATIVE_SLOPE = 0.01
NORM_EPSILON = 1e-5


class Shortcut:
    """A layer that knows a shorter way; ``shortcut`` is set to False where torch's own rounding is wanted."""

    shortcut = True

    def takes_shortcut(self, x: Tensor) -> bool:
        """Whether ``x`` is float32 on a CPU, to be computed in float32 and without gradients."""
        return (
            self.shortcut
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
        )


class Convolution2d(Shortcut, nn.Conv2d):
    """``nn.Conv2d``; quick for a single window on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (batch, inputs, y, x)."""
        return _convolve_one(self, x) if len(x) == 1 and self.takes_shortcut(x) else super().forward(x)


class Convolution3d(Shortcut, nn.Conv3d):
    """``nn.Conv3d``; quick for a single window on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (batch, inputs, z, y, x)."""
        if self._has_no_true_gradient(x):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))
        return _convolve_one(self, x) if len(x) == 1 and self.takes_shortcut(x) else super().forward(x)

    def _has_no_true_gradient(self, x: Tensor) -> bool:
        """Whether this is one of the convolutions in half precision whose weights' gradient oneDNN gets wrong.

        On CPUs, in bfloat16 and with fewer planes than the kernel has, it reads and writes beside its memory:
        1e36 instead of 1, or a crash (docs/decisions/few-planes-in-bfloat16.md). With wide kernels rows can be too few,
        as well. They are small; float32 takes no time.
        """
        if x.device.type != "cpu" or not torch.is_grad_enabled() or not torch.is_autocast_enabled("cpu"):
            return False
        (planes, rows), (deep, high, _) = x.shape[2:4], self.kernel_size
        return 1 < planes < deep or (high > 3 and rows < high)


class AveragePool3d(nn.Module):
    """The mean of blocks that lie side by side, as ``nn.AvgPool3d`` has it.

    That one has no deterministic backward on GPUs (``torch.use_deterministic_algorithms`` lists it), so there the mean
    is taken another way where operations have to be deterministic: the same but for rounding.
    """

    def __init__(self, blocks: Sequence[int]):
        super().__init__()
        self.blocks = tuple(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Average (batch, features, z, y, x), whose sizes are multiples of the blocks', to one value per block."""
        if x.device.type == "cpu" or not torch.are_deterministic_algorithms_enabled():
            return functional.avg_pool3d(x, self.blocks)
        return self.means(x)

    def means(self, x: Tensor) -> Tensor:
        """The other way; what has to be undone in its backward is a division."""
        for axis in (2, 1, 0):  # the last one first: those before it keep their numbers
            x = x.unflatten(axis + 2, (-1, self.blocks[axis]))
        return x.mean((3, 5, 7))


def _convolve_one(layer: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """Hand a batch of one to oneDNN.

    Torch itself would take kernels of its own where such a batch has few features (``use_mkldnn`` in
    ATen/native/Convolution.cpp), three times as slow.
    """
    if not torch.backends.mkldnn.is_available() or isinstance(layer.padding, str):
        return layer._conv_forward(x, layer.weight, layer.bias)
    return torch.mkldnn_convolution(
        x, layer.weight, layer.bias, layer.padding, layer.stride, layer.dilation, layer.groups
    )


# by number of spatial axes
CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: Convolution2d, 3: Convolution3d}
TRANSPOSED_CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
AVERAGE_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: AveragePool3d}
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def convolution(
    inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], bias: bool = True
) -> nn.Module:
    """A 2D or 3D convolution (by the length of ``kernel``) padded so that stride 1 keeps the size."""
    padding = tuple((size - 1) // 2 for size in kernel)
    return CONVOLUTION[len(kernel)](inputs, outputs, tuple(kernel), tuple(stride), padding, bias=bias)


class InstanceNorm(Shortcut, nn.Module):
    """Instance normalisation with a learned scale and shift per feature, over maps of any number of axes.

    The same arithmetic as torch's own, to the bit. But torch's returns a view, and when an activation overwrites a
    view, its backward copies the gradient three times at full size: at the moment when a training step holds most.

    The shortcut overwrites its input. Torch adds up in double precision, one after the other; sums within planes and
    then of planes are as exact and take a fifth of the time.
    """

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each map of (batch, features, *size) by its own mean and variance."""
        if self.takes_shortcut(x) and x.is_contiguous():
            return self._in_place(x)
        samples, features = x.shape[:2]
        maps = x.reshape(1, samples * features, *x.shape[2:])
        scale, shift = self.weight.repeat(samples), self.bias.repeat(samples)
        normalized = functional.batch_norm(maps, None, None, scale, shift, training=True, eps=NORM_EPSILON)
        return torch.ops.aten._unsafe_view(normalized, x.shape)  # safe: nothing else knows ``normalized``

    def _in_place(self, x: Tensor) -> Tensor:
        planes = x.view(*x.shape[:3], -1)
        planes -= planes.mean((2, 3), keepdim=True)
        lengths = vector_norm(vector_norm(planes, dim=3, keepdim=True), dim=2, keepdim=True)
        variance = lengths.square() / (planes.shape[2] * planes.shape[3])
        planes *= self.weight.view(1, -1, 1, 1) * torch.rsqrt(variance + NORM_EPSILON)
        planes += self.bias.view(1, -1, 1, 1)
        return x


class ConvolutionBlock(nn.Sequential):
    """Convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] | None = None):
        super().__init__(
            convolution(inputs, outputs, kernel, stride or (1,) * len(kernel)),
            InstanceNorm(outputs),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        )


class Dropout(nn.Dropout):
    """``nn.Dropout`` for a batch of which some samples may be elsewhere, with processes that train along.

    All of them have the same random numbers. Each draws for the whole batch, as one process alone does, and drops what
    falls on its own samples: ``first`` and those after it, of ``samples``.
    """

    first, samples = 0, 0  # 0 samples: the batch is here as a whole

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of (batch, *size), and scale the others so that their mean stays."""
        if not (self.training and self.samples):
            return super().forward(x)
        factors = functional.dropout(x.new_ones(self.samples, *x.shape[1:]), self.p)
        return x * factors[self.first : self.first + len(x)]


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
            skip.append(AVERAGE_POOL[ndim](tuple(stride)))
        if inputs != outputs:
            skip += [convolution(inputs, outputs, ones, ones, bias=False), InstanceNorm(outputs)]
        self.skip = nn.Sequential(*skip)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, *size) to (batch, outputs, *size / stride)."""
        return self.activation(self.second(self.first(x)) + self.skip(x))


def run_stage(checkpointing: bool, stage: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """What a stage puts out; checkpointed, its inside is forgotten and computed again in the backward pass.

    Gradients are the same: nothing in a stage is random.
    """
    if checkpointing and torch.is_grad_enabled():
        output: Tensor = checkpoint(stage, *inputs, use_reentrant=False, preserve_rng_state=False)
        return output
    return stage(*inputs)


def without_shortcuts(network: nn.Module) -> None:
    """Let every layer compute as torch does by itself, to the bit."""
    for module in network.modules():
        if isinstance(module, Shortcut):
            module.shortcut = False


def draw_dropout_for_all(network: nn.Module, first: int, samples: int) -> None:
    """Let dropout know that what the network is given are the samples from ``first`` of a batch of ``samples``."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.first, module.samples = first, samples


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

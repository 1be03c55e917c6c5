"""Separate encoders and multi-scale stems: what they cost, and which networks can have them."""

from __future__ import annotations

import math

import pytest

from nnlite.errors import PlanError
from nnlite.planning.architectures import ARCHITECTURES
from nnlite.planning.counts import multiply_adds, parameter_count
from nnlite.planning.topology import Architecture, plan_topology

SHAPES = {
    "isotropic volume": ((1.0, 1.0, 1.0), (16, 16, 16)),
    "thick slices": ((4.0, 1.0, 1.0), (8, 32, 32)),
    "slice": ((1.0, 1.0), (32, 16)),
}
INPUTS = [((), "multi-scale"), ((1, 1), "plain"), ((1, 2, 1), "multi-scale")]
SEVERAL = [name for name, described in ARCHITECTURES.items() if not described.one_input]


@pytest.mark.parametrize("architecture", SEVERAL)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("encoders", "stem"), INPUTS)
def test_parameters_and_multiplications_are_those_of_the_network_that_is_built(
    architecture: Architecture, shape: str, encoders: tuple[int, ...], stem
) -> None:
    import torch
    from torch import nn

    from nnlite.networks.build import network_of

    spacing_mm, size = SHAPES[shape]
    topology, patch = plan_topology(
        spacing_mm, size, architecture=architecture, encoders=encoders, stem=stem, base_features=4, max_features=16
    )
    channels = sum(encoders) or 2
    network = network_of(topology, channels=channels, labels=3)
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert parameter_count(topology, channels=channels, labels=3) == weights
    performed = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        # A weight meets each output voxel once; in a transposed convolution (kernel = stride), each input voxel once.
        upsamples = isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d)
        performed.append(module.weight.numel() * math.prod((inputs[0] if upsamples else output).shape[2:]))

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.register_forward_hook(count)
    logits = network(torch.zeros(1, channels, *patch))
    assert logits[0].shape == (1, 3, *patch)
    assert multiply_adds(topology, patch, channels=channels, labels=3) == sum(performed)


def test_two_encoders_are_two_u_nets_down_and_one_up_and_what_joins_them() -> None:
    plain, _ = plan_topology((1.0, 1.0), (16, 16), base_features=4)  # 4, 8 and 16 features
    separate, _ = plan_topology((1.0, 1.0), (16, 16), base_features=4, encoders=(1, 1))

    def block(inputs: int, outputs: int, taps: int = 9) -> int:
        return outputs * (taps * inputs + 1 + 2)

    encoder = block(1, 4) + block(4, 4) + block(4, 8) + block(8, 8) + block(8, 16) + block(16, 16)
    joining = sum(block(2 * width, width, taps=1) for width in (4, 8, 16))
    alone = parameter_count(plain, channels=1, labels=2)
    assert parameter_count(separate, channels=2, labels=2) == alone + encoder + joining


def test_a_stem_adds_three_blocks_that_share_out_the_width_of_full_resolution() -> None:
    plain, _ = plan_topology((1.0, 1.0), (16, 16), base_features=8)
    stemmed, _ = plan_topology((1.0, 1.0), (16, 16), base_features=8, stem="multi-scale")
    branches = sum(width * (kernel**2 * 2 + 1 + 2) for width, kernel in ((3, 3), (3, 5), (2, 7)))
    wider = 8 * 9 * (8 - 2)  # the first convolution sees the stem's 8 features instead of two channels
    counts = [parameter_count(topology, channels=2, labels=2) for topology in (plain, stemmed)]
    assert counts[1] == counts[0] + branches + wider


@pytest.mark.parametrize("architecture", ["unet++", "unet-2015"])
@pytest.mark.parametrize(("encoders", "stem"), INPUTS)
def test_architectures_of_one_input_say_which_others_can(
    architecture: Architecture, encoders: tuple[int, ...], stem
) -> None:
    with pytest.raises(PlanError, match=r"\(--fusion\) and multi-scale stems \(--stem\) are for unet, resenc, vnet"):
        plan_topology((1.0, 1.0), (32, 32), architecture=architecture, encoders=encoders, stem=stem)


@pytest.mark.parametrize("encoders", [(2,), (1, 0)])
def test_a_single_encoder_is_none_of_several(encoders: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match="must be empty, or two or more numbers of channels"):
        plan_topology((1.0, 1.0), (32, 32), encoders=encoders)


def test_a_stem_of_three_branches_needs_three_features() -> None:
    with pytest.raises(PlanError, match="shares out 3 features or more, not 2"):
        plan_topology((1.0, 1.0), (32, 32), stem="multi-scale", base_features=2)

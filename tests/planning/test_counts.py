from __future__ import annotations

import math

import pytest

from nnlite.planning.counts import multiply_adds, output_elements, parameter_count
from nnlite.planning.topology import plan_topology


def test_residual_elements_count_stem_projections_and_pooled_skips_but_no_deep_heads() -> None:
    # 16 x 16 with 4 features, at most 8: stages of 16 x 16 x 4, 8 x 8 x 8, 4 x 4 x 8 features.
    topology, patch = plan_topology((1.0, 1.0), (16, 16), architecture="resenc", base_features=4, max_features=8)
    stem = 4 * 256
    encoder = 2 * 4 * 256 + (6 + 1) * 8 * 64 + (8 + 1) * 8 * 16  # two per block; + 1 for a projected or a pooled skip
    decoder = 2 * 8 * 64 + 2 * 4 * 256  # transposed convolution and one convolution
    head = 3 * 256
    assert output_elements(topology, patch, labels=3) == stem + encoder + decoder + head


@pytest.mark.parametrize("architecture", ["unet", "resenc"])
def test_parameters_are_those_of_the_network_that_is_built(architecture) -> None:
    from nnlite.networks.build import network_of

    topology, _ = plan_topology(
        (3.0, 1.0, 1.0), (8, 32, 32), architecture=architecture, base_features=4, max_features=16
    )
    network = network_of(topology, channels=2, labels=3)
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert parameter_count(topology, channels=2, labels=3) == weights


@pytest.mark.parametrize("architecture", ["unet", "resenc"])
def test_multiply_adds_are_those_that_the_built_network_performs(architecture) -> None:
    import torch
    from torch import nn

    from nnlite.networks.build import network_of

    topology, patch = plan_topology(
        (3.0, 1.0, 1.0), (8, 16, 16), architecture=architecture, base_features=4, max_features=8
    )
    network = network_of(topology, channels=2, labels=3)
    performed = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        # A weight meets each output voxel once; in a transposed convolution (kernel = stride), each input voxel once.
        grid = inputs[0] if isinstance(module, nn.ConvTranspose3d) else output
        performed.append(module.weight.numel() * math.prod(grid.shape[2:]))

    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(count)
    network(torch.zeros(1, 2, *patch))
    assert multiply_adds(topology, patch, channels=2, labels=3) == sum(performed)

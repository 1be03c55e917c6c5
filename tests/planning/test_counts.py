from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from nnlite.planning.architectures import ARCHITECTURES
from nnlite.planning.counts import multiply_adds, output_elements, parameter_count
from nnlite.planning.topology import Architecture, Topology, plan_topology


def test_residual_elements_count_stem_projections_and_pooled_skips_but_no_deep_heads() -> None:
    # 16 x 16 with 4 features, at most 8: stages of 16 x 16 x 4, 8 x 8 x 8, 4 x 4 x 8 features.
    topology, patch = plan_topology((1.0, 1.0), (16, 16), architecture="resenc", base_features=4, max_features=8)
    stem = 4 * 256
    encoder = 2 * 4 * 256 + (6 + 1) * 8 * 64 + (8 + 1) * 8 * 16  # two per block; + 1 for a projected or a pooled skip
    decoder = 2 * 8 * 64 + 2 * 4 * 256  # transposed convolution and one convolution
    head = 3 * 256
    assert output_elements(topology, patch, labels=3) == stem + encoder + decoder + head


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_are_those_of_the_network_that_is_built(architecture) -> None:
    from nnlite.networks.build import network_of

    topology, _ = plan_topology(
        (3.0, 1.0, 1.0), (8, 32, 32), architecture=architecture, base_features=4, max_features=16
    )
    network = network_of(topology, channels=2, labels=3)
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert parameter_count(topology, channels=2, labels=3) == weights


@pytest.mark.parametrize("architecture", ARCHITECTURES)
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
    network(torch.zeros(1, 2, *topology.seen_size(patch)))
    assert multiply_adds(topology, patch, channels=2, labels=3) == sum(performed)


def of_scales(architecture: Architecture, features: tuple[int, ...], ndim: int, **changes: Any) -> Topology:
    """A network that halves all axes between its stages, with two convolutions in each unless told otherwise."""
    stages = len(features)
    return Topology(
        strides=((1,) * ndim, *((2,) * ndim for _ in features[1:])),
        features=features,
        architecture=architecture,
        **{
            "kernels": ((3,) * ndim,) * stages,
            "encoder_blocks": (2,) * stages,
            "decoder_convolutions": (2,) * (stages - 1),
            **changes,
        },
    )


def vnet(encoder: tuple[int, ...], decoder: tuple[int, ...]) -> Topology:
    kernels = ((5, 5, 5),) * 5
    return of_scales(
        "vnet", (16, 32, 64, 128, 256), 3, kernels=kernels, encoder_blocks=encoder, decoder_convolutions=decoder
    )


def test_a_v_net_of_the_paper_s_size_has_the_weights_of_the_paper_s_layers() -> None:
    # 1, 2, 3, 3, 3 convolutions of 5 x 5 x 5 down, 3, 3, 2, 1 at twice the width up, 2 x 2 x 2 between the stages
    width = (16, 32, 64, 128, 256)
    down = 125 * (1 * 16 + 2 * 32**2 + 3 * 64**2 + 3 * 128**2 + 3 * 256**2)
    up = 125 * (3 * 256**2 + 3 * 128**2 + 2 * 64**2 + 1 * 32**2)
    between = 8 * sum(a * b for a, b in pairwise(width)) + 8 * (256 * 128 + 256 * 64 + 128 * 32 + 64 * 16)
    counted = parameter_count(vnet((1, 2, 3, 3, 3), (1, 2, 3, 3)), channels=1, labels=2)
    assert counted == pytest.approx(down + up + between, rel=0.001)  # 65.2 million; biases, norms and heads are few


def test_a_v_net_of_the_layers_that_were_released_has_its_published_size() -> None:
    # Implementations follow the authors' released model instead of their figure. MONAI's has 45,597,898 weights.
    counted = parameter_count(vnet((1, 1, 2, 3, 2), (1, 1, 2, 2)), channels=1, labels=2)
    assert counted == pytest.approx(45_597_898, rel=0.01)


def test_a_u_net_of_64_to_1024_features_has_31_million_weights() -> None:
    counted = parameter_count(of_scales("unet", (64, 128, 256, 512, 1024), 2), channels=1, labels=2)
    assert counted == pytest.approx(31.0e6, rel=0.01)  # as the U-Net of 2015, but for norms and heads


@pytest.mark.parametrize(("architecture", "published"), [("unet", 7_759_521), ("unet++", 9_041_601)])
def test_the_networks_that_u_net_plus_plus_was_published_with_have_their_sizes(
    architecture: Architecture, published: int
) -> None:
    # As counted in the authors' code (MrGiovanni/UNetPlusPlus, keras/helper_functions.py): 2D, one channel, one output.
    width = (32, 64, 128, 256, 512)
    rows = (4, 3, 2, 1) if architecture == "unet++" else (1, 1, 1, 1)  # nodes of each resolution beside the encoder's
    norms = 2 * 2 * (sum(width) + sum(here * nodes for here, nodes in zip(width, rows, strict=False)))
    # We have heads at all depths or levels; the authors count the only one that they predict with.
    more_heads = 3 * (32 + 1) if architecture == "unet++" else (64 + 1) + (128 + 1) + (256 + 1)
    counted = parameter_count(of_scales(architecture, width, 2), channels=1, labels=1)
    assert counted == published + norms + more_heads


def test_attention_gates_cost_what_their_convolutions_have() -> None:
    features = (16, 32, 64, 128, 256)
    plain, gated = (of_scales(name, features, 3) for name in ("unet", "attention-unet"))
    gates = sum(
        here * here * 8 + (below * here + here) + (here + 1)  # theta, 2 x 2 x 2; phi; psi
        for here, below in pairwise(features[1:])
    )
    count = partial(parameter_count, channels=1, labels=2)
    assert count(gated) == count(plain) + gates

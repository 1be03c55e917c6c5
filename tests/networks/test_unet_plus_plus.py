"""U-Net++ has the sizes and parameters that its topology says, and the U-Nets of every depth in it."""

from __future__ import annotations

import pytest
import torch

from nnlite.networks.unet_plus_plus import UNetPlusPlus
from nnlite.planning.topology import Topology, plan_topology

SHAPES = {
    "isotropic volume": ((1.0, 1.0, 1.0), (16, 16, 16)),
    "thick slices": ((4.0, 1.0, 1.0), (8, 32, 32)),
    "slice": ((1.0, 1.0), (32, 16)),
}


def planned(shape: str) -> tuple[Topology, tuple[int, ...]]:
    spacing_mm, patch = SHAPES[shape]
    return plan_topology(spacing_mm, patch, architecture="unet++", base_features=4, max_features=16)


@pytest.mark.parametrize("shape", SHAPES)
class TestEveryTopology:
    def test_training_gives_logits_of_every_depth_at_full_resolution(self, shape: str) -> None:
        topology, patch = planned(shape)
        outputs = UNetPlusPlus(topology, channels=2, labels=3).train()(torch.randn(2, 2, *patch))
        assert [logits.shape for logits in outputs] == [(2, 3, *patch)] * (topology.stages - 1)

    def test_evaluation_gives_the_chosen_depth_alone_the_deepest_at_first(self, shape: str) -> None:
        topology, patch = planned(shape)
        network, x = UNetPlusPlus(topology, channels=2, labels=3), torch.randn(1, 2, *patch)
        deepest_first = network.train()(x)
        assert torch.allclose(network.eval()(x), deepest_first[0], atol=1e-5)
        for depth, logits in enumerate(reversed(deepest_first), start=1):
            network.depth = depth
            assert torch.allclose(network(x), logits, atol=1e-5)

    def test_every_parameter_gets_a_finite_gradient(self, shape: str) -> None:
        topology, patch = planned(shape)
        network = UNetPlusPlus(topology, channels=2, labels=3)
        sum(logits.square().sum() for logits in network(torch.randn(1, 2, *patch))).backward()
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_two_dimensional_network_has_as_many_parameters_as_its_nodes_by_hand() -> None:
    topology, _ = plan_topology((1.0, 1.0), (16, 16), architecture="unet++", base_features=4)  # 4, 8 and 16 features
    assert topology.features == (4, 8, 16)

    def block(inputs: int, outputs: int) -> int:
        return outputs * (9 * inputs + 1 + 2)

    def node(column: int, here: int) -> int:  # upsampled, then the row so far and what came from below
        return here * (2 * here * 4 + 1) + block((column + 1) * here, here) + block(here, here)

    encoder = block(1, 4) + block(4, 4) + block(4, 8) + block(8, 8) + block(8, 16) + block(16, 16)
    heads = 2 * (2 * (4 + 1))
    wanted = encoder + node(1, 4) + node(2, 4) + node(1, 8) + heads
    assert sum(p.numel() for p in UNetPlusPlus(topology, channels=1, labels=2).parameters()) == wanted


def test_what_lies_beyond_the_depth_is_neither_needed_nor_computed() -> None:
    topology, patch = planned("slice")
    network, x = UNetPlusPlus(topology, channels=1, labels=2).eval(), torch.randn(1, 1, *patch)
    network.depth = 1
    shallow = network(x)
    kept = ("encoder.0.", "encoder.1.", "nodes.0-1.", "heads.0.")  # X(0, 0), X(1, 0), X(0, 1) and its head
    for name, weights in network.named_parameters():
        if not name.startswith(kept):
            weights.data.fill_(torch.nan)
    assert torch.equal(network(x), shallow)
    network.depth = 2
    assert network(x).isnan().any()

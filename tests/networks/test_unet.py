"""The U-Net and its relatives with padding have the sizes, parameters and outputs that their topology says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nnlite.networks.build import network_of
from nnlite.planning.counts import parameter_count
from nnlite.planning.topology import Architecture, Topology, plan_topology

SHAPES = {
    "isotropic volume": ((1.0, 1.0, 1.0), (16, 16, 16)),
    "thick slices": ((4.0, 1.0, 1.0), (8, 32, 32)),
    "slice": ((1.0, 1.0), (32, 16)),
}


def planned(shape: str, architecture: Architecture) -> tuple[Topology, tuple[int, ...]]:
    spacing_mm, patch = SHAPES[shape]
    return plan_topology(spacing_mm, patch, architecture=architecture, base_features=4, max_features=16)


@pytest.mark.parametrize("architecture", ["unet", "resenc", "vnet", "attention-unet"])
@pytest.mark.parametrize("shape", SHAPES)
class TestEveryTopology:
    def test_the_parameters_are_as_many_as_the_planner_counts(self, shape: str, architecture: Architecture) -> None:
        topology, _ = planned(shape, architecture)
        network = network_of(topology, channels=2, labels=3)
        assert sum(p.numel() for p in network.parameters()) == parameter_count(topology, channels=2, labels=3)

    def test_training_gives_logits_at_every_level_full_resolution_first(
        self, shape: str, architecture: Architecture
    ) -> None:
        topology, patch = planned(shape, architecture)
        outputs = network_of(topology, channels=2, labels=3).train()(torch.randn(2, 2, *patch))
        size = patch
        assert len(outputs) == topology.stages - 1
        for level, logits in enumerate(outputs):
            size = tuple(s // step for s, step in zip(size, topology.strides[level], strict=True))
            assert logits.shape == (2, 3, *size)

    def test_evaluation_gives_the_full_resolution_alone(self, shape: str, architecture: Architecture) -> None:
        topology, patch = planned(shape, architecture)
        network, x = network_of(topology, channels=2, labels=3), torch.randn(1, 2, *patch)
        assert torch.allclose(network.eval()(x), network.train()(x)[0], atol=1e-5)

    def test_every_parameter_gets_a_finite_gradient(self, shape: str, architecture: Architecture) -> None:
        topology, patch = planned(shape, architecture)
        network = network_of(topology, channels=2, labels=3)
        sum(logits.square().sum() for logits in network(torch.randn(1, 2, *patch))).backward()
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_any_multiple_of_the_divisor_is_a_possible_size() -> None:
    topology, _ = planned("thick slices", "unet")
    size = tuple(3 * step for step in topology.divisor)
    assert network_of(topology, channels=1, labels=2).eval()(torch.randn(1, 1, *size)).shape == (1, 2, *size)


def test_samples_of_a_batch_do_not_influence_each_other() -> None:
    topology, _ = planned("slice", "resenc")
    network, x = network_of(topology, channels=1, labels=2).eval(), torch.randn(3, 1, 32, 16)
    assert torch.allclose(network(x)[1:2], network(x[1:2]), atol=1e-5)


def test_skip_connections_carry_what_the_bottleneck_cannot() -> None:
    """With the upsampled path cut, the output still follows single voxels of the input."""
    topology, patch = planned("slice", "unet")
    network = network_of(topology, channels=1, labels=2).eval()
    torch.nn.init.zeros_(network.upsample[-1].get_parameter("weight"))
    x = torch.randn(1, 1, *patch)
    changed = x.clone()
    changed[..., 5, 5] += 10
    assert (network(changed) - network(x)).abs().amax() > 0.01


@pytest.mark.parametrize("architecture", ["unet", "resenc", "vnet", "attention-unet", "unet++"])
@pytest.mark.parametrize("shape", SHAPES)
def test_stages_that_are_computed_twice_give_the_same_gradients(shape: str, architecture: Architecture) -> None:
    topology, patch = planned(shape, architecture)
    x, gradients = torch.randn(2, 1, *patch), []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        network = network_of(replace(topology, checkpointing=checkpointing), channels=1, labels=2)
        sum(logits.square().mean() for logits in network(x)).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(once, twice) for once, twice in zip(*gradients, strict=True))


def test_a_checkpointed_network_can_be_compiled() -> None:
    topology, patch = planned("slice", "unet")
    network, x = network_of(replace(topology, checkpointing=True), channels=1, labels=2), torch.randn(2, 1, *patch)
    compiled = torch.compile(network, backend="aot_eager")  # all of the compiler but the code that it would write
    wanted, got = network(x), compiled(x)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(wanted, got, strict=True))
    sum(logits.square().mean() for logits in got).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())

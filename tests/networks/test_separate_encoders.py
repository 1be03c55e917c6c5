"""Each encoder sees its own channels, and all of them are trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nnlite.networks.build import network_of
from nnlite.planning.topology import Architecture, plan_topology

TOGETHER: tuple[Architecture, ...] = ("unet", "resenc", "vnet", "attention-unet")


def two_encoders(architecture: Architecture, *, checkpointing: bool = False) -> tuple[nn.Module, Tensor]:
    """A network with an encoder for each of two channels, and an image for it."""
    topology, patch = plan_topology(
        (1.0, 1.0),
        (16, 32),
        architecture=architecture,
        encoders=(1, 1),
        checkpointing=checkpointing,
        base_features=4,
        max_features=16,
    )
    return network_of(topology, channels=2, labels=3), torch.randn(2, 2, *patch)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", TOGETHER)
def test_every_parameter_of_every_encoder_gets_a_gradient(architecture: Architecture, *, checkpointing: bool) -> None:
    network, image = two_encoders(architecture, checkpointing=checkpointing)
    sum(logits.square().sum() for logits in network(image)).backward()
    missing = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.isfinite().all()]
    assert missing == []


@pytest.mark.parametrize("architecture", TOGETHER)
def test_an_encoder_does_not_see_the_channel_of_another(architecture: Architecture) -> None:
    network, image = two_encoders(architecture)
    maps: dict[tuple[int, int], list[Tensor]] = {}
    for encoder, stages in enumerate(network.separate.stages):
        for number, stage in enumerate(stages):
            seen = maps.setdefault((encoder, number), [])
            stage.register_forward_hook(lambda _module, _given, made, seen=seen: seen.append(made))
    other = image.clone()
    other[:, 1] += torch.randn_like(other[:, 1])
    logits, changed = network(image)[0], network(other)[0]
    assert len(maps) >= 2 * 3
    for (encoder, _), (before, after) in maps.items():
        assert torch.equal(before, after) == (encoder == 0)
    assert not torch.equal(logits, changed)  # the decoder sees both

"""A stage of a V-Net adds its input to what its convolutions make of it."""

from __future__ import annotations

import torch
from torch import nn

from nnlite.networks.vnet import ResidualStage, VNet
from nnlite.planning.topology import plan_topology


def test_stages_whose_convolutions_say_nothing_hand_on_their_input() -> None:
    topology, _ = plan_topology((1.0,) * 3, (16, 16, 16), architecture="vnet", base_features=4, max_features=16)
    network = VNet(topology, channels=2, labels=3)
    stages = [module for module in network.modules() if isinstance(module, ResidualStage)]
    assert len(stages) == 2 * topology.stages - 1  # down and up
    for stage in stages:
        last = stage.convolutions[-1]
        nn.init.zeros_(last.get_parameter("weight"))
        nn.init.zeros_(last.get_parameter("bias"))
        x = torch.randn(1, stage.convolutions[0].get_parameter("weight").shape[1], 4, 4, 4)
        assert torch.equal(stage(x), stage.activation(stage.skip(x)))
    projected = [not isinstance(stage.skip, nn.Identity) for stage in stages]
    assert projected == [True, *[False] * (len(stages) - 1)]  # the image alone has another width than its stage

"""Turn a planned configuration into a network with weights: the one place that knows which architecture is which."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from nnlite.errors import PlanError
from nnlite.networks.atlas import WithAtlas
from nnlite.networks.attention_unet import AttentionUNet
from nnlite.networks.resenc import ResidualEncoderUNet
from nnlite.networks.unet import UNet
from nnlite.networks.unet_2015 import UNet2015
from nnlite.networks.unet_plus_plus import UNetPlusPlus
from nnlite.networks.vnet import VNet
from nnlite.planning.cost import input_channels
from nnlite.planning.planner import Configuration, Plan
from nnlite.planning.topology import Topology

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "resenc": ResidualEncoderUNet,
    "unet++": UNetPlusPlus,
    "unet-2015": UNet2015,
    "vnet": VNet,
    "attention-unet": AttentionUNet,
}
"""By ``Topology.architecture``."""


def network_of(topology: Topology, *, channels: int, labels: int) -> nn.Module:
    """The network of a topology for images of so many channels, with an output per label, background included."""
    return NETWORKS[topology.architecture](topology, channels=channels, labels=labels)


def build_network(plan: Plan, configuration: Configuration) -> nn.Module:
    """The planned network with freshly drawn weights (torch's global random state).

    It maps (batch, channels, *size) to logits (batch, labels, *size), background included. The second stage of a
    cascade sees the foreground labels of the first as further channels. With a prior it also takes the place of each
    voxel, after the channels of the image.
    """
    channels = input_channels(plan, configuration)
    encoders = configuration.topology.encoders
    if encoders and sum(encoders) != channels:
        raise PlanError(
            f"configuration {configuration.name}: topology.encoders {encoders} see {sum(encoders)} channels, and there "
            f"are {channels}; correct the plan or run `nnlite plan` again"
        )
    network = network_of(configuration.topology, channels=channels, labels=plan.labels.outputs)
    if plan.prior is None:
        return network
    margin = configuration.topology.margin
    return WithAtlas(network, plan.prior, plan.labels, image_channels=len(plan.image_channels), margin=margin)


def weight_shapes(plan: Plan, configuration: Configuration) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of the planned network; takes no memory for them."""
    with torch.device("meta"):
        network = build_network(plan, configuration)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

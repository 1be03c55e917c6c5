"""Turn a planned configuration into a network with weights: the one place that knows which architecture is which."""

from __future__ import annotations

import torch
from torch import nn

from nnlite.networks.atlas import WithAtlas
from nnlite.networks.unet import UNet
from nnlite.planning.cost import input_channels
from nnlite.planning.planner import Configuration, Plan


def build_network(plan: Plan, configuration: Configuration) -> nn.Module:
    """The planned network with freshly drawn weights (torch's global random state).

    It maps (batch, channels, *size) to logits (batch, labels, *size), background included. The second stage of a
    cascade sees the foreground labels of the first as further channels. With a prior it also takes the place of each
    voxel, after the channels of the image.
    """
    network = UNet(configuration.topology, channels=input_channels(plan, configuration), labels=plan.labels.outputs)
    if plan.prior is None:
        return network
    return WithAtlas(network, plan.prior, plan.labels, image_channels=len(plan.image_channels))


def weight_shapes(plan: Plan, configuration: Configuration) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of the planned network; takes no memory for them."""
    with torch.device("meta"):
        network = build_network(plan, configuration)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

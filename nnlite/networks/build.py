"""Turn a planned configuration into a network with weights: the one place that knows which architecture is which."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from nnlite.networks.resenc import ResidualEncoderUNet
from nnlite.networks.unet import UNet
from nnlite.planning.planner import Configuration, Plan
from nnlite.planning.topology import Topology

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {"unet": UNet, "resenc": ResidualEncoderUNet}
"""By ``Topology.architecture``."""


def network_of(topology: Topology, *, channels: int, labels: int) -> nn.Module:
    """The network of a topology for images of so many channels, with an output per label, background included."""
    return NETWORKS[topology.architecture](topology, channels=channels, labels=labels)


def build_network(plan: Plan, configuration: Configuration) -> nn.Module:
    """The planned network with freshly drawn weights (torch's global random state).

    It maps (batch, channels, *size) to logits (batch, labels, *size), background included. The second stage of a
    cascade sees the foreground labels of the first as further channels.
    """
    labels = plan.labels
    channels = len(plan.channels)
    if configuration.previous_stage is not None:
        channels += len(labels.foreground)
    return network_of(configuration.topology, channels=channels, labels=labels.outputs)


def weight_shapes(plan: Plan, configuration: Configuration) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of the planned network; takes no memory for them."""
    with torch.device("meta"):
        network = build_network(plan, configuration)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

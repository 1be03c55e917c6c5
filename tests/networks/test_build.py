"""A planned configuration becomes a network with the channels and labels of its plan."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from nnlite.data.labels import Labels
from nnlite.networks.build import build_network, weight_shapes
from nnlite.planning.configurations import Configuration, ConfigurationName
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Plan
from nnlite.planning.topology import Architecture, plan_topology

INTENSITY = IntensityProperties(
    mean=0.0, median=0.0, std=1.0, min=-3.0, max=3.0, percentile_00_5=-2.5, percentile_99_5=2.5
)


def configuration(name: ConfigurationName, architecture: Architecture = "unet") -> Configuration:
    ndim = 2 if name == "2d" else 3
    topology, patch = plan_topology((1.0,) * ndim, (16,) * ndim, architecture=architecture, base_features=4)
    return Configuration(
        name=name,
        spacing_mm=(1.0,) * ndim,
        median_shape=(20.0,) * ndim,
        patch_size=patch,
        batch_size=2,
        normalization=("zscore", "zscore"),
        use_nonzero_mask=(False, False),
        batch_dice=False,
        topology=topology,
        previous_stage="3d-lowres" if name == "3d-cascade" else None,
        reasons={},
    )


def plan(*configurations: Configuration) -> Plan:
    return Plan(
        dataset="phantom",
        device="cpu",
        planner="plain",
        memory_gib=None,
        transpose=(0, 1, 2),
        channels=("T1", "T2"),
        labels=Labels(names=("background", "liver", "lesion", "vessel"), values=(0, 1, 2, 3)),
        intensities=(INTENSITY, INTENSITY),
        training_cases=4,
        configurations={one.name: one for one in configurations},
        reasons={},
    )


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_the_network_maps_the_channels_of_the_plan_to_its_labels(name: ConfigurationName) -> None:
    chosen = configuration(name)
    network = build_network(plan(chosen), chosen).eval()
    assert network(torch.randn(1, 2, *chosen.patch_size)).shape == (1, 4, *chosen.patch_size)


def test_the_second_stage_of_a_cascade_also_sees_the_foreground_labels_of_the_first() -> None:
    chosen = configuration("3d-cascade")
    network = build_network(plan(configuration("3d-lowres"), chosen), chosen)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv3d))
    assert first.in_channels == 2 + 3


def test_the_same_seed_draws_the_same_weights() -> None:
    chosen = configuration("3d")
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(build_network(plan(chosen), chosen).state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


@pytest.mark.parametrize("architecture", ["unet", "resenc"])
def test_shapes_are_those_of_the_network_without_memory_for_it(architecture: Architecture) -> None:
    one = configuration("3d", architecture)
    made = plan(one)
    built = build_network(made, one).state_dict()
    assert weight_shapes(made, one) == {name: tuple(tensor.shape) for name, tensor in built.items()}
    wide = replace(one, topology=replace(one.topology, features=(2**16,) * one.topology.stages))
    largest = max(math.prod(shape) for shape in weight_shapes(plan(wide), wide).values())
    assert largest > 2**36  # a quarter of a terabyte, had it been made

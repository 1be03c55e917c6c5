"""Weights of another network are taken where they fit, counted, and the others named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from nnlite.data.labels import Labels
from nnlite.networks.build import build_network, network_of, weight_shapes
from nnlite.networks.unet import UNet
from nnlite.planning.prior import Prior, PriorUse
from nnlite.planning.topology import Architecture, plan_topology
from nnlite.training.checkpoint import Checkpoint, ModelCard
from nnlite.training.initial_weights import describe, encoder_weights, matching


def checkpoint(seed: int = 0) -> Checkpoint:
    plan = tiny.plan()
    torch.manual_seed(seed)
    network = build_network(plan, plan.configuration("3d"))
    card = ModelCard(plan=plan, configuration="3d", fold="fold2", epoch=1, mirror_axes=())
    return Checkpoint(card=card, weights=network.state_dict())


def test_the_same_network_is_taken_as_a_whole():
    one = checkpoint()
    needed = weight_shapes(one.card.plan, one.card.plan.configuration("3d"))
    assert matching(one.weights, needed).keys() == needed.keys()
    told = describe(one, "there", needed)
    assert (told.tensors, told.fresh) == (told.all_tensors, ())
    assert told.parameters == told.all_parameters == sum(tensor.numel() for tensor in one.weights.values())
    words = f"weights of phantom 3d fold2: {told.tensors} of {told.tensors} tensors, "
    assert told.in_words() == words + f"{told.parameters:,} of {told.parameters:,} parameters"


def test_another_number_of_channels_and_labels_leaves_the_first_layer_and_the_heads_fresh():
    one = checkpoint()
    plan, configuration = one.card.plan, one.card.plan.configuration("3d")
    two_channels = replace(configuration, normalization=("zscore",) * 2, use_nonzero_mask=(False,) * 2)
    other = replace(
        plan,
        channels=("T1", "T2"),
        intensities=plan.intensities * 2,
        labels=Labels(names=("background", "ball"), values=(0, 1)),
        configurations={"3d": two_channels},
    )
    needed = weight_shapes(other, two_channels)
    told = describe(one, "there", needed)
    heads = [name for name in needed if name.startswith("heads.")]
    assert told.fresh == ("encoder.0.0.0.weight", *heads)
    assert told.tensors == len(needed) - len(told.fresh)
    assert not set(matching(one.weights, needed)) & set(told.fresh)


def test_the_digest_is_that_of_the_weights_which_are_taken():
    one, same, other = checkpoint(), checkpoint(), checkpoint(seed=1)
    needed = weight_shapes(one.card.plan, one.card.plan.configuration("3d"))
    first = describe(one, "a", needed).digest
    assert describe(same, "b", needed).digest == first
    assert describe(other, "a", needed).digest != first
    same.weights["not.needed"] = torch.zeros(1)
    assert describe(same, "a", needed).digest == first


@pytest.mark.parametrize("use", ["channel", "product"])
def test_networks_with_and_without_an_atlas_have_weights_in_common(use: PriorUse):
    plain = checkpoint()
    plan = replace(plain.card.plan, prior=Prior(use=use, atlas_shape=(4, 4, 4)))
    behind = Checkpoint(
        card=replace(plain.card, plan=plan), weights=build_network(plan, plan.configuration("3d")).state_dict()
    )
    needed, needed_behind = (weight_shapes(one, one.configuration("3d")) for one in (plain.card.plan, plan))
    first = "encoder.0.0.0.weight"  # sees the channels of the atlas
    fresh = {first} if use == "channel" else set()
    there, back, both = (
        describe(plain, "a", needed_behind),
        describe(behind, "b", needed),
        describe(behind, "c", needed_behind),
    )
    assert set(there.fresh) == {f"network.{name}" for name in fresh}
    assert set(back.fresh) == fresh
    assert both.fresh == ()  # the atlas is no weight to be drawn or taken
    assert {told.all_tensors for told in (there, back, both)} == {len(needed)}
    assert matching(behind.weights, needed).keys() == needed.keys() - fresh
    assert matching(plain.weights, needed_behind).keys() == {f"network.{name}" for name in needed.keys() - fresh}


@pytest.mark.parametrize("encoders", [(), (1, 1)])
@pytest.mark.parametrize("architecture", ["unet", "resenc", "vnet", "attention-unet"])
def test_the_encoder_is_what_an_image_runs_through_before_the_decoder(
    architecture: Architecture, encoders: tuple[int, ...]
):
    topology, _ = plan_topology(
        (1.0, 1.0), (16, 16), architecture=architecture, encoders=encoders, stem="multi-scale", base_features=4
    )
    network = network_of(topology, channels=2, labels=2)
    assert isinstance(network, UNet)
    sum((handed**2).sum() for handed in network.encode(torch.randn(2, 2, 16, 16))).backward()
    reached = [name for name, weight in network.named_parameters() if weight.grad is not None]
    assert encoder_weights(network.state_dict()) == reached
    assert 0 < len(reached) < len(network.state_dict())

"""The U-Net of 2015 answers for the centre of what it sees, and for nothing that it would have to invent."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nnlite.inference.overlap_tiles import OverlapTiles
from nnlite.inference.sliding_window import predict_logits
from nnlite.networks.unet_2015 import UNet2015, centre
from nnlite.planning.counts import parameter_count
from nnlite.planning.topology import Topology, plan_topology

SHAPES = {
    "isotropic volume": ((1.0, 1.0, 1.0), (12, 12, 12)),
    "thick slices": ((4.0, 1.0, 1.0), (8, 20, 20)),
    "slice": ((1.0, 1.0), (32, 16)),
}


def planned(shape: str) -> tuple[Topology, tuple[int, ...]]:
    spacing_mm, patch = SHAPES[shape]
    return plan_topology(spacing_mm, patch, architecture="unet-2015", base_features=4, max_features=16)


@pytest.mark.parametrize("shape", SHAPES)
class TestEveryTopology:
    def test_the_parameters_are_as_many_as_the_planner_counts(self, shape: str) -> None:
        topology, _ = planned(shape)
        network = UNet2015(topology, channels=2, labels=3)
        assert sum(p.numel() for p in network.parameters()) == parameter_count(topology, channels=2, labels=3)

    def test_it_answers_for_the_patch_whose_surroundings_it_sees(self, shape: str) -> None:
        topology, patch = planned(shape)
        network, x = UNet2015(topology, channels=2, labels=3), torch.randn(2, 2, *topology.seen_size(patch))
        (logits,) = network.train()(x)
        assert logits.shape == network.eval()(x).shape == (2, 3, *patch)

    def test_every_parameter_gets_a_finite_gradient(self, shape: str) -> None:
        topology, patch = planned(shape)
        network = UNet2015(topology, channels=2, labels=3)
        sum(logits.square().sum() for logits in network(torch.randn(1, 2, *topology.seen_size(patch)))).backward()
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    def test_tiles_say_what_the_whole_image_says_at_once(self, shape: str) -> None:
        topology, patch = planned(shape)
        network = UNet2015(topology, channels=1, labels=2).eval()
        whole = topology.fitting_size([3 * size for size in patch])
        image = torch.randn(1, *(1,) * (3 - len(patch)), *whole)
        tiles = OverlapTiles(margin=topology.margin, divisor=topology.divisor)
        at_once, in_tiles = (
            predict_logits(network, image, patch_size=size, labels=2, tiles=tiles, device="cpu")
            for size in (whole, patch)
        )
        torch.testing.assert_close(in_tiles, at_once, atol=1e-4, rtol=0)


def test_the_published_network_has_31_million_parameters_and_maps_572_pixels_to_388() -> None:
    topology, patch = plan_topology((1.0, 1.0), (388, 388), architecture="unet-2015")
    with torch.device("meta"):  # shapes alone
        network = UNet2015(topology, channels=1, labels=2).eval()
        assert network(torch.empty(1, 1, 572, 572)).shape == (1, 2, *patch)
    assert sum(p.numel() for p in network.parameters()) == 31_030_658


def test_what_lies_beyond_the_margin_does_not_matter_and_what_lies_within_it_does() -> None:
    topology, patch = planned("slice")
    network, size = UNet2015(topology, channels=1, labels=2).eval(), topology.seen_size(patch)
    for weight in network.parameters():
        weight.data.abs_()  # no ReLU answers 0, no two ways cancel out: what can reach a voxel does
    x = torch.rand(1, 1, *size, requires_grad=True)
    network(x)[0, 0, patch[0] // 2, patch[1] // 2].backward()
    assert x.grad is not None
    reached = x.grad[0, 0].nonzero()
    assert (reached.amin(0) > 0).all()  # the centre sees less than all, so the margin belongs to the voxels around it
    x.grad = None
    network(x)[0, 0, 0, 0].backward()
    assert x.grad[0, 0, : topology.margin[0], : topology.margin[1]].any()


def test_dropout_stands_at_the_end_of_the_contracting_path_in_training_alone() -> None:
    topology, patch = planned("slice")
    network, x = UNet2015(topology, channels=1, labels=2), torch.randn(1, 1, *topology.seen_size(patch))
    assert not torch.equal(network.train()(x)[0], network(x)[0])
    assert torch.equal(network.eval()(x), network(x))
    nn.init.zeros_(network.upsample[0].get_parameter("weight"))  # what comes from the bottleneck no longer counts
    assert torch.equal(network.train()(x)[0], network(x)[0])


def test_weights_are_drawn_so_that_maps_keep_their_variance() -> None:
    topology, _ = plan_topology((1.0, 1.0), (388, 388), architecture="unet-2015", base_features=16)
    network = UNet2015(topology, channels=1, labels=2)
    deepest, up = network.encoder[-1][2], network.upsample[0]
    assert deepest.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)
    assert up.weight.std().item() == pytest.approx(math.sqrt(1 / 256), rel=0.02)  # no ReLU follows, so 1 instead of 2
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))


def test_the_centre_leaves_out_as_much_on_either_side() -> None:
    maps = torch.arange(35).view(1, 1, 5, 7)
    assert centre(maps, (3, 3))[0, 0].tolist() == [[9, 10, 11], [16, 17, 18], [23, 24, 25]]

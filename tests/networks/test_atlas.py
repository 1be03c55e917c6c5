"""A network with an atlas sees frequencies at the place of each voxel, or has its probabilities multiplied by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import plan
from torch import Tensor, nn

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.networks.atlas import LEAST_FREQUENCY, WithAtlas
from nnlite.networks.build import build_network, weight_shapes
from nnlite.planning.configurations import ConfigurationName
from nnlite.planning.prior import Prior, PriorUse

LABELS = Labels.from_table({"left": 1, "right": 2})


class Recorder(nn.Module):
    """Answers with zeros, in training at two sizes, and remembers what it saw."""

    def __init__(self, outputs: int):
        super().__init__()
        self.outputs = outputs

    def forward(self, batch: Tensor) -> Tensor | list[Tensor]:
        self.seen = batch
        logits = torch.zeros(len(batch), self.outputs, *batch.shape[2:])
        return [logits, logits[..., ::2, ::2]] if self.training else logits


def halves(use: PriorUse, labels: Labels = LABELS) -> WithAtlas:
    """The first structure is in the first half of the last axis with a frequency of 0.75, the second in the other."""
    atlas = np.zeros((2, 1, 1, 8), dtype=np.float32)
    atlas[0, ..., :4] = atlas[1, ..., 4:] = 0.75
    network = WithAtlas(Recorder(labels.outputs), Prior(use=use, atlas_shape=(1, 1, 8)), labels, image_channels=1)
    network.take(atlas)
    return network.eval()


def batch(*size: int) -> Tensor:
    """Noise, and the places of a whole image."""
    where = torch.stack(torch.meshgrid(*[1 + (torch.arange(n) + 0.5) / n for n in size], indexing="ij"))
    where = where if len(size) == 3 else torch.cat([torch.full((1, *size), 1.5), where])
    return torch.cat([torch.randn(1, *size), where])[None]


@pytest.mark.parametrize("size", [(4, 8), (2, 4, 8)])
def test_the_atlas_is_seen_as_channels_behind_those_of_the_image(size: tuple[int, ...]) -> None:
    network, given = halves("channel"), batch(*size)
    network(given)
    seen = network.network.seen
    assert torch.equal(seen[:, :1], given[:, :1])
    assert seen.shape == (1, 3, *size)
    assert torch.allclose(seen[0, 1, ..., :4], torch.tensor(0.75))
    assert torch.allclose(seen[0, 1, ..., 4:], torch.tensor(0.0), atol=1e-6)
    assert torch.allclose(seen[0, 2], seen[0, 1].flip(-1), atol=1e-6)


def test_what_comes_after_the_places_is_seen_last() -> None:
    network, given = halves("channel"), batch(4, 8)
    more = torch.randn(1, 2, 4, 8)
    network(torch.cat([given, more], dim=1))
    assert torch.equal(network.network.seen[:, 3:], more)


def test_the_mirrored_image_finds_the_mirrored_atlas() -> None:
    network, given = halves("channel"), batch(4, 8)
    network(given)
    plain = network.network.seen
    network(given.flip(-1))
    assert torch.allclose(network.network.seen, plain.flip(-1), atol=1e-6)


def test_padding_lies_at_the_border_of_the_atlas() -> None:
    network = halves("channel")
    found = network.frequencies(torch.zeros(1, 3, 2, 2))  # places of 0: nowhere
    assert torch.allclose(found[0, :, 0, 0], torch.tensor([0.75, 0.0]))


def test_probabilities_are_multiplied_by_the_atlas() -> None:
    network = halves("product")
    probabilities = network(batch(4, 8)).softmax(dim=1)[0, :, 0]  # the network itself finds all three alike
    prior = torch.tensor([0.25, 0.75, LEAST_FREQUENCY])
    assert torch.allclose(probabilities[:, 0], prior / prior.sum(), atol=1e-5)
    assert network.network.seen.shape[1] == 1


def test_odds_of_regions_are_multiplied_by_those_of_the_atlas() -> None:
    regions = Labels.from_table({"whole": [1, 2], "core": 2})
    network = halves("product", regions)
    probabilities = network(batch(4, 8)).sigmoid()[0, :, 0, 0]
    assert probabilities.tolist() == pytest.approx([0.75, LEAST_FREQUENCY], abs=1e-5)


@pytest.mark.parametrize("use", ["channel", "product"])
def test_the_border_of_instances_is_as_frequent_as_its_label(use: PriorUse) -> None:
    nuclei = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(border_px=2))
    network = WithAtlas(Recorder(nuclei.outputs), Prior(use=use, atlas_shape=(1, 1, 8)), nuclei, image_channels=1)
    network.take(np.full((1, 1, 1, 8), 0.75, dtype=np.float32))
    probabilities = network.eval()(batch(4, 8)).softmax(dim=1)[0, :, 0, 0]
    wanted = torch.tensor([0.25, 0.75, 0.75]) if use == "product" else torch.ones(3)
    assert torch.allclose(probabilities, wanted / wanted.sum(), atol=1e-5)
    assert network.network.seen.shape[1] == (2 if use == "channel" else 1)


@pytest.mark.parametrize("use", ["channel", "product"])
def test_an_atlas_that_a_sample_brings_takes_the_place_of_the_network_s(use: PriorUse) -> None:
    network, other = halves(use), halves(use)
    mirrored = network.atlas.flip(-1)
    other.take(mirrored.numpy())
    two = torch.cat([batch(4, 8), batch(4, 8)])
    logits = network(two, torch.stack([network.atlas, mirrored]))
    seen = network.network.seen
    for row, whole in enumerate((network, other)):
        assert torch.equal(whole(two[row : row + 1]), logits[row : row + 1])
        assert torch.equal(whole.network.seen, seen[row : row + 1])


def test_every_level_of_deep_supervision_gets_the_atlas() -> None:
    fine, coarse = halves("product").train()(batch(4, 8))
    assert (fine.shape, coarse.shape) == ((1, 3, 4, 8), (1, 3, 2, 4))
    assert torch.allclose(coarse, fine[..., ::2, ::2], atol=1e-5)


@pytest.mark.parametrize("name", ["2d", "3d", "3d-cascade"])
@pytest.mark.parametrize("use", ["channel", "product"])
def test_planned_networks_answer_and_keep_their_atlas(name: ConfigurationName, use: PriorUse) -> None:
    made = replace(plan(name), prior=Prior(use=use, atlas_shape=(4, 5, 6)))
    configuration = made.configuration(name)
    network = build_network(made, configuration).eval()
    more = 2 if name == "3d-cascade" else 0
    logits = network(torch.rand(2, 1 + 3 + more, *configuration.patch_size))
    assert logits.shape == (2, 3, *configuration.patch_size)
    assert weight_shapes(made, configuration)["atlas"] == (2, 4, 5, 6)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_without_padding_gets_the_atlas_of_what_it_answers_for(*, training: bool) -> None:
    class WithoutPadding(nn.Module):
        def forward(self, batch: Tensor) -> Tensor | list[Tensor]:
            logits = torch.zeros(len(batch), 3, batch.shape[2] - 2, batch.shape[3] - 6)
            return [logits] if self.training else logits

    whole = halves("product")
    atlas = WithAtlas(
        WithoutPadding(), Prior(use="product", atlas_shape=(1, 1, 8)), LABELS, image_channels=1, margin=(1, 3)
    )
    atlas.take(whole.atlas.numpy())
    answer = atlas.train(training)(batch(4, 8))
    logits = answer[0] if training else answer
    assert torch.equal(logits, whole(batch(4, 8))[..., 1:-1, 3:-3])

"""Means over voxels, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nnlite.data.labels import Labels
from nnlite.training.answer import Answer
from nnlite.training.loss_terms.entropy import (
    binary_cross_entropy,
    border_weighted_entropy,
    cross_entropy,
    focal,
    top_entropy,
)
from nnlite.training.loss_terms.level import Level
from nnlite.training.target_maps import TargetMaps

REGIONS = Answer.to(Labels.from_table({"whole": [1, 2], "core": 2}), torch.device("cpu"))


def of_probabilities(*rows: tuple[float, ...]) -> torch.Tensor:
    """Logits (1, labels, voxels) whose softmax is these rows, a row per label."""
    return torch.tensor(rows).log()[None]


THREE = Level(logits=of_probabilities((0.5, 0.2), (0.25, 0.7), (0.25, 0.1)), target=torch.tensor([[1, 1]]))


def test_cross_entropy_is_the_logarithm_of_what_is_right() -> None:
    assert cross_entropy(THREE).item() == pytest.approx(-(math.log(0.25) + math.log(0.7)) / 2)


def test_binary_cross_entropy_asks_each_label_against_all_others() -> None:
    # voxel 0: label 1 is right (0.25), 0 and 2 are not (1 - 0.5, 1 - 0.25); voxel 1 likewise
    voxels = -math.log(0.25) - math.log(0.5) - math.log(0.75), -math.log(0.7) - math.log(0.8) - math.log(0.9)
    assert binary_cross_entropy(THREE).item() == pytest.approx(sum(voxels) / 6)


def test_of_regions_both_entropies_are_binary() -> None:
    level = Level(logits=torch.tensor([[[0.0], [2.0]]]), target=torch.tensor([[1]]), answer=REGIONS)
    # whole is right: ln 2; the core is not there: -ln(1 - 1 / (1 + e^-2)) = ln(1 + e^2)
    wanted = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert binary_cross_entropy(level).item() == pytest.approx(wanted)
    assert cross_entropy(level).item() == pytest.approx(wanted)


def test_focal_leaves_out_most_of_what_is_nearly_right() -> None:
    wanted = -(0.75**2 * math.log(0.25) + 0.3**2 * math.log(0.7)) / 2
    assert focal(THREE).item() == pytest.approx(wanted)
    level = Level(logits=torch.tensor([[[0.0], [0.0]]]), target=torch.tensor([[1]]), answer=REGIONS)
    assert focal(level).item() == pytest.approx(0.25 * math.log(2))


def test_the_top_is_the_tenth_of_each_sample_where_the_entropy_is_highest() -> None:
    right = torch.full((2, 20), 0.9)
    right[0, :3] = torch.tensor([0.1, 0.2, 0.3])  # two of twenty: the first two of these
    logits = torch.stack((1 - right, right), dim=1).log()
    wanted = -(math.log(0.1) + math.log(0.2) + 2 * math.log(0.9)) / 4
    target = torch.ones(2, 20, dtype=torch.long)
    assert top_entropy(Level(logits=logits, target=target)).item() == pytest.approx(wanted, rel=1e-5)


def test_of_voxels_that_are_judged_the_top_is_a_tenth_too() -> None:
    right = torch.tensor([[0.1, 0.2, 0.3, *[0.9] * 17]])
    logits = torch.stack((1 - right, right), dim=1).log()
    target = torch.ones(1, 20, dtype=torch.long)
    target[0, 0] = target[0, 5:14] = 2  # ten are left: one is their tenth
    level = Level(logits=logits, target=target, answer=Answer(ignore=2))
    assert top_entropy(level).item() == pytest.approx(-math.log(0.2), rel=1e-5)


def test_border_weights_make_a_weighted_mean() -> None:
    maps = TargetMaps(border_weights=torch.tensor([[1.0, 3.0]]))
    level = Level(logits=THREE.logits, target=THREE.target, maps=maps)
    assert border_weighted_entropy(level).item() == pytest.approx(-(math.log(0.25) + 3 * math.log(0.7)) / 4)
    regions = Level(logits=torch.tensor([[[0.0, 2.0]] * 2]), target=torch.tensor([[2, 2]]), answer=REGIONS, maps=maps)
    assert border_weighted_entropy(regions).item() == pytest.approx((math.log(2) + 3 * math.log(1 + math.exp(-2))) / 4)

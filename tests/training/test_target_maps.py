"""Maps are made of what the loss wants, travel with their batch, and are thinned out like the target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.preprocessing.instance_border import with_border
from nnlite.training.loss_terms.border_weights import border_weights
from nnlite.training.loss_terms.boundary import boundary
from nnlite.training.loss_terms.level import Level
from nnlite.training.loss_terms.signed_distance import signed_distance
from nnlite.training.target_maps import BORDER_WEIGHTS, DISTANCES, NO_MAPS, MapMaker

LABELS = Labels.from_table({"cell": 1, "core": 2})
TARGETS = torch.randint(0, 3, (3, 8, 6), generator=torch.Generator().manual_seed(0))


def test_a_loss_that_wants_no_maps_gets_none() -> None:
    assert MapMaker.to((), LABELS, (1.0, 1.0))(TARGETS) is NO_MAPS


def test_only_what_is_wanted_is_made_sample_by_sample() -> None:
    maps = MapMaker.to([BORDER_WEIGHTS], LABELS, (0.5, 0.5))(TARGETS)
    assert maps.distances is None
    assert maps.border_weights is not None
    assert torch.equal(maps.border_weights[1], torch.from_numpy(border_weights(TARGETS[1].numpy())))


@pytest.mark.parametrize("rim", [False, True])
def test_touching_cells_with_numbers_are_two_by_the_border_between_them(rim: bool) -> None:
    names = {"names": ("background", "nucleus"), "values": (0, 1)}
    labels = Labels(**names, instances=Instances(numbered=True, border_px=1, rim=rim))
    numbers = np.zeros((1, 20, 30), dtype=np.uint8)
    numbers[:, 5:15, 5:15], numbers[:, 5:15, 15:25] = 4, 9
    target = with_border(numbers, labels)[0]
    maps = MapMaker.to([BORDER_WEIGHTS], labels, (1.0, 1.0))(torch.from_numpy(target)[None])
    assert maps.border_weights is not None
    wanted = border_weights(target, instances=np.digitize(numbers[0], [4, 9]))
    assert torch.equal(maps.border_weights[0], torch.from_numpy(wanted))
    assert wanted[10, 14] > wanted[10, 5] + 5  # where they touch, and where there is only background beyond


@pytest.mark.parametrize("rim", [False, True])
def test_a_line_of_ignored_voxels_makes_no_two_cells_of_one_with_a_border(rim: bool) -> None:
    names = {"names": ("background", "nucleus"), "values": (0, 1)}
    labels = Labels(**names, ignore=255, instances=Instances(numbered=True, border_px=1, rim=rim))
    cells = np.zeros((1, 20, 30), dtype=np.uint8)
    cells[:, 5:15, 5:15], cells[:, 5:15, 15:25] = 1, 2
    numbers = cells.copy()
    numbers[:, 10] = 255
    target = with_border(numbers, labels)[0]
    maps = MapMaker.to([BORDER_WEIGHTS], labels, (1.0, 1.0))(torch.from_numpy(target)[None])
    assert maps.border_weights is not None
    wanted = border_weights(target, ignore=labels.ignore_index, instances=cells[0])
    assert torch.equal(maps.border_weights[0], torch.from_numpy(wanted))


def test_distances_are_those_of_each_structure_on_its_grid() -> None:
    regions = Labels.from_table({"whole": [1, 2], "core": 2})
    maps = MapMaker.to([DISTANCES], regions, (2.0, 1.0))(TARGETS)
    assert maps.distances is not None
    whole, core = (TARGETS[2] > 0).numpy(), (TARGETS[2] == 2).numpy()
    wanted = np.stack([signed_distance(mask, (2.0, 1.0)) for mask in (whole, core)])
    assert torch.allclose(maps.distances[2].float(), torch.from_numpy(wanted), rtol=1e-3)


def test_distances_are_those_to_what_is_known() -> None:
    labels, target = Labels.from_table({"cell": 1, "ignore": 2}), torch.tensor([[0, 2, 1, 1, 0]])
    maps = MapMaker.to([DISTANCES], labels, (1.0,))(target)
    assert maps.distances is not None
    assert maps.distances[0, 0].tolist() == [1.5, 0, -1.5, -0.5, 0.5]


def test_the_border_of_instances_is_a_structure_with_distances_of_its_own() -> None:
    labels = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(border_px=2))
    target = torch.tensor([[0, 2, 1, 1, 2, 2, 1, 0]])
    maps = MapMaker.to([DISTANCES], labels, (1.0,))(target)
    assert maps.distances is not None
    inside, border = maps.distances[0].tolist()
    assert inside == [1.5, 0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0.5]
    assert border == [0.5, -0.5, 0.5, 0.5, -0.5, -0.5, 0.5, 1.5]
    logits = 100 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    assert boundary(Level(logits=logits, target=target, maps=maps)).item() == pytest.approx(0)
    swapped = logits[:, [0, 2, 1]]  # 6 voxels wrong in both channels, each by the distance to its own border
    assert boundary(Level(logits=swapped, target=target, maps=maps)).item() == pytest.approx(2 * 6 * 0.5 / (2 * 8))


def test_maps_are_divided_and_thinned_out_like_labels() -> None:
    maps = MapMaker.to([BORDER_WEIGHTS, DISTANCES], LABELS, (1.0, 1.0))(TARGETS)
    assert maps.border_weights is not None
    assert maps.distances is not None
    first, second = maps.chunks(2)
    assert first.distances is not None
    assert second.border_weights is not None
    assert torch.equal(first.distances, maps.distances[:2])
    assert torch.equal(second.border_weights, maps.border_weights[2:])
    small = maps.thinned_out((4, 3))
    assert small.distances is not None
    assert small.border_weights is not None
    assert torch.equal(small.border_weights, maps.border_weights[:, 1::2, 1::2])
    assert torch.equal(small.distances, maps.distances[:, :, 1::2, 1::2].float())
    assert NO_MAPS.chunks(3) == [NO_MAPS] * 3

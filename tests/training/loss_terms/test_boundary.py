"""The distance of borders, by hand."""

from __future__ import annotations

import pytest
import torch

from nnlite.training.loss import Loss, segmentation_loss
from nnlite.training.loss_terms.boundary import boundary, share_of_others
from nnlite.training.loss_terms.level import Level
from nnlite.training.target_maps import TargetMaps

MAPS = TargetMaps(distances=torch.tensor([[[1.5, 0.5, -0.5, -1.5]]]))
TARGET = torch.tensor([[0, 0, 1, 1]])


def certain(target: torch.Tensor) -> torch.Tensor:
    return 100 * torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        ([0, 0, 1, 1], 0.0),
        ([0, 1, 1, 1], 0.5 / 4),  # one voxel beyond the border, whose middle is half a voxel away
        ([1, 1, 1, 1], (0.5 + 1.5) / 4),
        ([0, 0, 0, 1], 0.5 / 4),  # and one short of it
        ([0, 0, 0, 0], (0.5 + 1.5) / 4),
    ],
)
def test_voxels_that_are_wrong_count_by_their_distance_to_the_border(seen: list[int], wanted: float) -> None:
    level = Level(logits=certain(torch.tensor([seen])), target=TARGET, maps=MAPS)
    assert boundary(level).item() == pytest.approx(wanted, abs=1e-5)


def test_distances_of_other_structures_are_refused() -> None:
    """One map for two structures would be taken for both of them."""
    level = Level(logits=torch.zeros(1, 3, 4), target=TARGET, maps=MAPS)
    with pytest.raises(ValueError, match=r"distances of shape \(1, 1, 4\) for structures of shape \(1, 2, 4\)"):
        boundary(level)


def test_it_takes_the_place_of_the_other_terms_little_by_little() -> None:
    logits, loss = torch.randn(1, 2, 4), Loss.named("2*dice+boundary")
    dice = segmentation_loss(logits, TARGET, batch_dice=True, loss=Loss.named("dice")).item()
    border = boundary(Level(logits=logits, target=TARGET, maps=MAPS)).item()
    for done, others in ((0.0, 1.0), (0.3, 0.7), (0.999, 0.01), (1.2, 0.01)):  # a last step may lie beyond the end
        got = segmentation_loss(logits, TARGET, batch_dice=True, loss=loss, maps=MAPS, share_done=done)
        assert got.item() == pytest.approx(others * 2 * dice + (1 - others) * border, abs=1e-5)
        assert share_of_others(done) == pytest.approx(others)

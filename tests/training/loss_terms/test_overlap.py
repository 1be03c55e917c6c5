"""Dice and its relatives by hand on a few voxels."""

from __future__ import annotations

import pytest
import torch

from nnlite.training.loss_terms.level import Level
from nnlite.training.loss_terms.overlap import batch_dice, dice, generalised_dice, sample_dice, tversky


def certain(target: torch.Tensor, labels: int) -> torch.Tensor:
    """Logits of a prediction that is sure of ``target``."""
    return 100 * torch.nn.functional.one_hot(target, labels).movedim(-1, 1).float()


TARGET = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]])
SEEN = certain(torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0]]), 2)


@pytest.mark.parametrize("planned", [False, True])
def test_the_dice_of_a_name_is_taken_as_the_name_says(planned: bool) -> None:
    level = Level(logits=SEEN, target=TARGET, batch_dice=planned)
    # each for itself: 1 and 2 x 1 / (1 + 3); together 2 found, 2 predicted, 4 wanted
    samples, batch = 1 - (1 + 1 / 2) / 2, 1 - 2 * 2 / 6
    assert sample_dice(level).item() == pytest.approx(samples, abs=1e-4)
    assert batch_dice(level).item() == pytest.approx(batch, abs=1e-4)
    assert dice(level).item() == pytest.approx(batch if planned else samples, abs=1e-4)


def test_what_is_missed_costs_more_than_what_is_too_much() -> None:
    missed = Level(logits=certain(torch.tensor([[1, 0, 0, 0]]), 2), target=torch.tensor([[1, 1, 0, 0]]))
    too_much = Level(logits=certain(torch.tensor([[1, 1, 0, 0]]), 2), target=torch.tensor([[1, 0, 0, 0]]))
    assert tversky(missed).item() == pytest.approx(1 - 1 / (1 + 0.7), abs=1e-4)
    assert tversky(too_much).item() == pytest.approx(1 - 1 / (1 + 0.3), abs=1e-4)


@pytest.mark.parametrize("planned", [False, True])
def test_tversky_with_both_halves_is_the_dice(planned: bool) -> None:
    level = Level(logits=torch.randn(2, 3, 40), target=torch.randint(0, 3, (2, 40)), batch_dice=planned)
    half = tversky(level, false_positives=0.5, false_negatives=0.5)
    assert half.item() == pytest.approx(dice(level).item(), abs=1e-4)


def test_the_generalised_dice_divides_each_label_by_the_square_of_its_volume() -> None:
    # 1 voxel of label 1, 3 of background: weights 1 and 1/9. Nothing of the label is found:
    # 2 (1 x 0 + 3/9) / (1 x (0 + 1) + (4 + 3)/9) = (6/9) / (16/9)
    level = Level(logits=certain(torch.tensor([[0, 0, 0, 0]]), 2), target=torch.tensor([[1, 0, 0, 0]]))
    assert generalised_dice(level).item() == pytest.approx(1 - 6 / 16, abs=1e-4)


def test_a_label_that_is_absent_weighs_as_the_smallest_that_is_there() -> None:
    # background and label 2 have two voxels each, label 1 none: all weigh alike. Two voxels are taken for label 1:
    # 2 x 2 / (0 + 2 + 2 + 2 + 2 + 0), hits / volumes of background (0 of 0 + 2), label 1 (2 + 0), label 2 (2 of 2 + 2)
    level = Level(logits=certain(torch.tensor([[1, 1, 2, 2]]), 3), target=torch.tensor([[0, 0, 2, 2]]))
    assert generalised_dice(level).item() == pytest.approx(1 - 4 / 8, abs=1e-4)


def test_the_generalised_dice_of_samples_is_their_mean() -> None:
    one, other, both = (
        Level(logits=SEEN[rows], target=TARGET[rows], batch_dice=False) for rows in (slice(0, 1), slice(1, 2), slice(2))
    )
    mean = (generalised_dice(one) + generalised_dice(other)) / 2
    assert generalised_dice(both).item() == pytest.approx(mean.item(), abs=1e-6)

"""The loss by hand on a few voxels, and its limits."""

from __future__ import annotations

import math

import pytest
import torch

from nnlite.data.labels import Labels
from nnlite.training.loss import (
    Answer,
    deep_supervision_loss,
    level_weights,
    segmentation_loss,
    soft_dice_loss,
    thin_out,
)


def certain(target: torch.Tensor, labels: int) -> torch.Tensor:
    """Logits of a prediction that is sure of ``target``."""
    return 100 * torch.nn.functional.one_hot(target, labels).movedim(-1, 1).float()


def test_a_perfect_prediction_has_no_loss() -> None:
    target = torch.randint(0, 3, (2, 4, 4, 4))
    assert soft_dice_loss(certain(target, 3), target, batch_dice=False).item() == pytest.approx(0, abs=1e-6)
    assert segmentation_loss(certain(target, 3), target, batch_dice=True).item() == pytest.approx(0, abs=1e-6)


def test_a_prediction_without_any_overlap_has_a_dice_loss_of_one() -> None:
    target = torch.tensor([[0, 0, 1, 1]])
    assert soft_dice_loss(certain(1 - target, 2), target, batch_dice=False).item() == pytest.approx(1, abs=1e-5)


def test_an_undecided_prediction_by_hand() -> None:
    # two labels, all probabilities 1/2, one voxel of four is foreground:
    # Dice = 2 x 0.5 / (4 x 0.5 + 1) = 1/3, cross-entropy = ln 2
    logits, target = torch.zeros(1, 2, 4), torch.tensor([[1, 0, 0, 0]])
    assert soft_dice_loss(logits, target, batch_dice=False).item() == pytest.approx(2 / 3, abs=1e-4)
    assert segmentation_loss(logits, target, batch_dice=False).item() == pytest.approx(2 / 3 + math.log(2), abs=1e-4)


def test_the_batch_counts_as_one_volume_or_each_sample_for_itself() -> None:
    # sample 0: 1 of 1 voxel found, Dice 1; sample 1: 1 of 3 found, Dice 2 x 1 / (1 + 3) = 1/2
    target = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]])
    logits = certain(torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0]]), 2)
    assert soft_dice_loss(logits, target, batch_dice=False).item() == pytest.approx(1 - 3 / 4, abs=1e-4)
    # together 2 found, 2 predicted, 4 wanted: 2 x 2 / 6
    assert soft_dice_loss(logits, target, batch_dice=True).item() == pytest.approx(1 - 2 / 3, abs=1e-4)


def test_the_background_does_not_count_in_the_dice() -> None:
    target = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 1]])
    missed = certain(torch.zeros_like(target), 2)  # seven of eight voxels are right, and yet the Dice is 0
    assert soft_dice_loss(missed, target, batch_dice=False).item() == pytest.approx(1, abs=1e-4)


def test_a_label_that_is_nowhere_costs_nothing() -> None:
    target = torch.tensor([[0, 1, 0, 1]])
    assert soft_dice_loss(certain(target, 3), target, batch_dice=False).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_value_and_gradient_are_those_of_the_formula(batch_dice: bool) -> None:
    logits, target = torch.randn(2, 4, 5, 6, 7), torch.randint(0, 4, (2, 5, 6, 7))
    ours, plain = (logits.double().clone().requires_grad_() for _ in range(2))
    p = torch.exp(plain) / torch.exp(plain).sum(dim=1, keepdim=True)
    t = torch.nn.functional.one_hot(target, 4).movedim(-1, 1).double()
    axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    dice = (2 * (p * t).sum(axes) + 1e-5) / (p.sum(axes) + t.sum(axes) + 1e-5)
    wanted = -(t * torch.log(p)).sum(dim=1).mean() + 1 - dice[..., 1:].mean()  # label 0 is the background
    got = segmentation_loss(ours, target, batch_dice=batch_dice)
    assert got.item() == pytest.approx(wanted.item(), abs=1e-5)  # ours is in float32
    got.backward()
    wanted.backward()
    assert torch.allclose(ours.grad, plain.grad, atol=1e-6)


def test_levels_are_halved_and_the_lowest_is_left_out() -> None:
    assert level_weights(3) == pytest.approx([2 / 3, 1 / 3, 0])
    assert level_weights(2) == [1, 0]
    assert level_weights(1) == [1]


@pytest.mark.parametrize("levels", range(1, 7))
def test_weights_of_levels_sum_to_one(levels: int) -> None:
    assert sum(level_weights(levels)) == pytest.approx(1)


def test_deep_supervision_weighs_each_level_by_hand() -> None:
    target = torch.randint(0, 2, (1, 8, 8))
    outputs = [torch.randn(1, 2, size, size, requires_grad=True) for size in (8, 4, 2)]
    losses = [segmentation_loss(o, thin_out(target, o.shape[2:]), batch_dice=False) for o in outputs]
    total = deep_supervision_loss(outputs, target, batch_dice=False)
    assert total.item() == pytest.approx((2 * losses[0] + losses[1]).item() / 3, abs=1e-6)
    total.backward()
    assert outputs[1].grad is not None
    assert outputs[2].grad is None


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits, target = torch.randn(1, 2, 64, 64, dtype=torch.bfloat16), torch.randint(0, 2, (1, 64, 64))
    loss = segmentation_loss(logits, target, batch_dice=False)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, segmentation_loss(logits.float(), target, batch_dice=False))


def test_thinning_out_keeps_blocks_and_large_label_numbers() -> None:
    target = torch.tensor([[[7, 7, 300, 300], [7, 7, 300, 300]]])
    assert thin_out(target, (1, 2)).tolist() == [[[7, 300]]]
    assert thin_out(target, (2, 4)) is target


REGIONS = Labels.from_table({"whole": [1, 2], "core": 2, "ignore": 3})


def test_ignored_voxels_count_in_neither_term() -> None:
    logits, target = torch.randn(2, 3, 4, 6), torch.randint(0, 3, (2, 4, 6))
    beside = torch.cat([target, torch.full((2, 4, 5), 3)], dim=2)
    wider = torch.cat([logits, torch.randn(2, 3, 4, 5)], dim=3).requires_grad_()
    for batch_dice in (False, True):
        alone = segmentation_loss(logits, target, batch_dice=batch_dice)
        together = segmentation_loss(wider, beside, Answer(ignore=3), batch_dice=batch_dice)
        assert together.item() == pytest.approx(alone.item(), abs=1e-6)
    together.backward()
    assert wider.grad is not None
    assert wider.grad[..., :6].abs().min() > 0
    assert not wider.grad[..., 6:].any()


@pytest.mark.parametrize("answer", [Answer(ignore=3), Answer.to(REGIONS, torch.device("cpu"))])
def test_where_nothing_is_labelled_there_is_nothing_to_learn(answer: Answer) -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), 3), answer, batch_dice=False)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_loss_of_regions_by_hand() -> None:
    # logit 0: probability 1/2 everywhere, cross-entropy ln 2; voxels are background, whole, core (and whole), ignored
    # whole: 2 x (2 x 1/2) / (3 x 1/2 + 2) = 4/7; core: 2 x 1/2 / (3 x 1/2 + 1) = 2/5
    answer = Answer.to(REGIONS, torch.device("cpu"))
    loss = segmentation_loss(torch.zeros(1, 2, 4), torch.tensor([[0, 1, 2, 3]]), answer, batch_dice=False)
    assert loss.item() == pytest.approx(math.log(2) + 1 - (4 / 7 + 2 / 5) / 2, abs=1e-4)


def test_regions_that_are_all_found_cost_nothing() -> None:
    answer, target = Answer.to(REGIONS, torch.device("cpu")), torch.randint(0, 3, (2, 5, 5))
    logits = 200 * answer.wanted(target, 2).float() - 100
    assert segmentation_loss(logits, target, answer, batch_dice=True).item() == pytest.approx(0, abs=1e-5)

"""The loss by hand on a few voxels, and its limits."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from nnlite.data.labels import Labels
from nnlite.errors import UsageError
from nnlite.training.answer import Answer
from nnlite.training.loss import (
    Loss,
    deep_supervision_loss,
    level_weights,
    output_weights,
    segmentation_loss,
    thin_out,
)
from nnlite.training.target_maps import BORDER_WEIGHTS, DISTANCES, MapMaker

soft_dice_loss = partial(segmentation_loss, loss=Loss.named("dice"))


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


def test_outputs_of_one_size_share_what_their_level_weighs() -> None:
    assert output_weights([(8, 8)] * 4) == [1 / 4] * 4
    assert output_weights([(8, 8), (4, 4), (4, 4), (2, 2)]) == pytest.approx([2 / 3, 1 / 6, 1 / 6, 0])
    assert output_weights([(8, 8), (4, 4), (2, 2)]) == level_weights(3)


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


# structures that were not drawn


def of_probabilities(*rows: tuple[float, ...]) -> torch.Tensor:
    """Logits (1, labels, voxels) whose softmax is these rows, a row per label."""
    return torch.tensor(rows).log()[None]


@pytest.mark.parametrize("batch_dice", [False, True])
def test_background_may_be_whatever_was_not_drawn(batch_dice: bool) -> None:
    # liver (1) is drawn, spleen (2) is not. Voxel 0 is liver, voxel 1 is not.
    logits = of_probabilities((0.2, 0.3), (0.5, 0.1), (0.3, 0.6))
    target, drawn = torch.tensor([[1, 0]]), torch.tensor([[True, True, False]])
    # cross-entropy: -ln 0.5 for the liver, -ln(0.3 + 0.6) for what is either background or spleen
    entropy = -(math.log(0.5) + math.log(0.9)) / 2
    # Dice of the liver alone: 2 x 0.5 / (0.5 + 0.1 + 1)
    dice = 1 - 1.0 / 1.6
    loss = segmentation_loss(logits, target, drawn=drawn, batch_dice=batch_dice)
    assert loss.item() == pytest.approx(entropy + dice, abs=1e-4)


def test_a_spleen_that_was_not_drawn_is_not_punished_where_it_is_found() -> None:
    target, drawn = torch.tensor([[0, 0, 1]]), torch.tensor([[True, True, False]])
    found = certain(torch.tensor([[0, 2, 1]]), 3)
    assert segmentation_loss(found, target, batch_dice=False).item() > 30  # 100 for one of three voxels
    assert segmentation_loss(found, target, drawn=drawn, batch_dice=False).item() == pytest.approx(0, abs=1e-4)
    found.requires_grad_()
    segmentation_loss(found, target, drawn=drawn, batch_dice=False).backward()
    assert found.grad is not None
    assert found.grad.isfinite().all()


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignore", [None, 3])
def test_where_everything_is_drawn_the_loss_is_the_plain_one(batch_dice: bool, ignore: int | None) -> None:
    logits, target = torch.randn(2, 3, 5, 6), torch.randint(0, 4 if ignore else 3, (2, 5, 6))
    drawn = torch.ones(2, 3, dtype=torch.bool)
    one, other = (
        segmentation_loss(logits, target, Answer(ignore=ignore), some, batch_dice=batch_dice) for some in (None, drawn)
    )
    assert one.item() == pytest.approx(other.item(), abs=1e-6)


def test_the_dice_of_a_batch_counts_each_label_in_the_samples_that_drew_it() -> None:
    # sample 0 drew both labels, sample 1 only label 1, where a label 2 is seen
    target = torch.tensor([[0, 1, 2, 2], [0, 1, 1, 0]])
    seen = certain(torch.tensor([[0, 1, 2, 0], [2, 1, 0, 0]]), 3)
    drawn = torch.tensor([[True, True, True], [True, True, False]])
    # as one volume: label 1 has 2 of 2 found, 3 wanted: 4/5; label 2, of sample 0 alone, 1 of 1 found, 2 wanted: 2/3.
    # cross-entropy: the second label 2 of sample 0 and the second label 1 of sample 1 are missed, 100 of 8 voxels each
    wanted = 1 - (4 / 5 + 2 / 3) / 2 + 200 / 8
    assert segmentation_loss(seen, target, drawn=drawn, batch_dice=True).item() == pytest.approx(wanted, abs=1e-3)
    # each for itself: label 1 has 1 and 2/3, label 2 has 2/3 in sample 0: a mean over three
    wanted = 1 - (1 + 2 / 3 + 2 / 3) / 3 + 200 / 8
    assert segmentation_loss(seen, target, drawn=drawn, batch_dice=False).item() == pytest.approx(wanted, abs=1e-3)


def test_ignored_voxels_count_nowhere_beside_what_was_not_drawn() -> None:
    logits = of_probabilities((0.2, 0.3, 0.9), (0.5, 0.1, 0.05), (0.3, 0.6, 0.05))
    target, drawn = torch.tensor([[1, 0, 3]]), torch.tensor([[True, True, False]])
    loss = segmentation_loss(logits, target, Answer(ignore=3), drawn, batch_dice=False)
    without = segmentation_loss(logits[..., :2], target[..., :2], drawn=drawn, batch_dice=False)
    assert loss.item() == pytest.approx(without.item(), abs=1e-6)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_regions_that_were_not_drawn_do_not_count(batch_dice: bool) -> None:
    labels = Labels.from_table({"whole": [1, 2], "core": 2, "ignore": 3})
    answer = Answer.to(labels, torch.device("cpu"))
    target, drawn = torch.tensor([[0, 1, 1, 3]]), torch.tensor([[True, False]])
    logits = torch.zeros(1, 2, 4)
    logits[0, 1] = 50  # a core everywhere: nobody can say that it is wrong
    # whole is undecided: ln 2, and of 3 voxels that count 2 are wanted: 1 - 2 x 1 / (1.5 + 2)
    loss = segmentation_loss(logits, target, answer, drawn, batch_dice=batch_dice)
    assert loss.item() == pytest.approx(math.log(2) + 1 - 2 / 3.5, abs=1e-4)
    everything = torch.ones_like(drawn)
    one, other = (segmentation_loss(logits, target, answer, d, batch_dice=batch_dice) for d in (everything, None))
    assert one.item() == pytest.approx(other.item(), rel=1e-6)


def test_every_level_of_the_decoder_leaves_out_what_was_not_drawn() -> None:
    target, drawn = torch.tensor([[0, 0, 1, 1, 0, 0, 0, 0]]), torch.tensor([[True, True, False]])
    levels = [certain(thin_out(torch.tensor([[0, 0, 1, 1, 2, 2, 2, 2]]), (size,)), 3) for size in (8, 4, 2)]
    assert deep_supervision_loss(levels, target, drawn=drawn, batch_dice=True).item() == pytest.approx(0, abs=1e-4)
    assert deep_supervision_loss(levels, target, batch_dice=True).item() > 40


def test_a_sample_in_which_nothing_is_drawn_has_no_loss() -> None:
    logits, target = torch.zeros(1, 3, 4), torch.zeros(1, 4, dtype=torch.long)
    drawn = torch.tensor([[True, False, False]])
    assert segmentation_loss(logits, target, drawn=drawn, batch_dice=True).item() == pytest.approx(0, abs=1e-6)


# named losses


def test_a_sum_of_terms_is_their_weighted_sum() -> None:
    logits, target = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    ce, dice, together = (
        segmentation_loss(logits, target, batch_dice=True, loss=Loss.named(name)).item()
        for name in ("ce", "dice", "0.5*dice + 2*ce")
    )
    assert together == pytest.approx(0.5 * dice + 2 * ce, abs=1e-5)


def test_the_order_and_the_spaces_of_a_sum_make_no_difference() -> None:
    assert Loss.named("ce+dice") == Loss.named(" dice + 1*ce ")
    assert Loss.named("ce+dice") != Loss.named("0.5*dice+ce")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dyce+ce", r'no loss "dyce"; dyce\+ce is to be one of dice, batch-dice, .*, boundary, or a sum'),
        ("", 'no loss ""'),
        ("dice+", 'no loss ""'),
        ("dice+dice", r"names dice twice; give it a weight, as 2\*dice"),
        ("x*dice", '"x" in the loss .* is no positive number'),
        ("-1*dice", '"-1" in the loss .* is no positive number'),
        ("inf*dice", "no positive number"),
        ("nan*dice", "no positive number"),
        ("boundary", r"boundary alone .* as boundary\+dice"),
    ],
)
def test_a_loss_that_there_is_not_is_refused_with_those_there_are(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Loss.named(text)


def test_maps_are_wanted_by_those_terms_that_use_them() -> None:
    assert not Loss.named("dice+ce").needs
    assert Loss.named("border-weighted+dice").needs == {BORDER_WEIGHTS}
    assert Loss.named("boundary+dice").needs == {DISTANCES}


@pytest.mark.parametrize("name", ["border-weighted", "boundary+dice"])
def test_maps_are_thinned_out_with_the_target_of_each_level(name: str) -> None:
    target, loss = torch.randint(0, 2, (1, 8, 8)), Loss.named(name)
    maps = MapMaker.to(loss.needs, Labels.from_table({"cell": 1}), (1.0, 1.0))(target)
    outputs = [torch.randn(1, 2, size, size) for size in (8, 4, 2)]
    first, second = (
        segmentation_loss(
            logits,
            thin_out(target, logits.shape[2:]),
            batch_dice=True,
            loss=loss,
            maps=maps.thinned_out(logits.shape[2:]),
            share_done=0.5,
        )
        for logits in outputs[:2]
    )
    total = deep_supervision_loss(outputs, target, batch_dice=True, loss=loss, maps=maps, share_done=0.5)
    assert total.item() == pytest.approx((2 * first + second).item() / 3, abs=1e-6)

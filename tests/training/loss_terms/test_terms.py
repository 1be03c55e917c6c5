"""Every term, at one level of the decoder and over all: its gradient is that of its value, of what is judged alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from nnlite.data.labels import Labels, Region
from nnlite.training.answer import LABELS, Answer, Part
from nnlite.training.loss import BOUNDARY, MAPS, TERMS, Loss, deep_supervision_loss, segmentation_loss
from nnlite.training.loss_terms.level import Level
from nnlite.training.target_maps import MapMaker

CPU = torch.device("cpu")
PLAIN = Labels.from_table({"liver": 1, "spleen": 2})
IGNORING = Labels.from_table({"liver": 1, "spleen": 2, "ignore": 3})
REGIONS = Labels(
    names=("background", "one", "two"),
    values=(0, 1, 2),
    regions=(
        Region(name="whole", values=(1, 2), painted=1),
        Region(name="core", values=(2,), painted=2),
        Region(name="rim", values=(1,), painted=1),
    ),
    ignore=3,
)
PARTLY = torch.tensor([[True, True, False], [True, True, True]])
KINDS = {
    "labels": (PLAIN, None),
    "ignored": (IGNORING, None),
    "regions": (REGIONS, None),
    "partly drawn": (IGNORING, PARTLY),
    "partly drawn regions": (REGIONS, PARTLY),
}


def a_level(kind: str, logits: torch.Tensor, target: torch.Tensor, batch_dice: bool = True) -> Level:
    labels, drawn = KINDS[kind]
    if drawn is not None:  # a spleen that was not drawn is not in the label map
        target = torch.where((target == 2) & ~drawn[:, 2].view(-1, 1, 1), 0, target)
    answer = Answer.to(labels, CPU) if labels is not PLAIN else LABELS
    maps = MapMaker.to(set(MAPS.values()), labels, (1.0, 1.0))(target)
    return Level(logits=logits, target=target, answer=answer, drawn=drawn, batch_dice=batch_dice, maps=maps)


def a_target(kind: str, seed: int = 0, size: tuple[int, int] = (4, 5)) -> torch.Tensor:
    highest = 3 if kind == "labels" else 4
    return torch.randint(0, highest, (2, *size), generator=torch.Generator().manual_seed(seed))


def at_three_levels(kind: str) -> tuple[list[torch.Tensor], Level]:
    """Outputs of 8, 4 and 2 voxels along each axis, with gradients, and the first of them with its target."""
    source = torch.Generator().manual_seed(2)
    outputs = [torch.randn(2, 3, size, size, dtype=torch.float64, generator=source) for size in (8, 4, 2)]
    return [one.requires_grad_() for one in outputs], a_level(kind, outputs[0], a_target(kind, size=(8, 8)))


def deeply_supervised(term: str, outputs: Sequence[torch.Tensor], finest: Level) -> torch.Tensor:
    """The loss that is this term alone, halfway through the training: the boundary counts a half by then."""
    return deep_supervision_loss(
        outputs,
        finest.target,
        finest.answer,
        finest.drawn,
        batch_dice=finest.batch_dice,
        loss=Loss(((term, 1.0),)),
        maps=finest.maps,
        share_done=0.5,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("term", TERMS)
def test_the_gradient_is_that_of_the_value(term: str, kind: str) -> None:
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for batch_dice in (False, True):
        level = a_level(kind, logits, a_target(kind), batch_dice)
        assert torch.autograd.gradcheck(
            lambda some, level=level: TERMS[term](replace(level, logits=some)),
            logits.requires_grad_(),
            fast_mode=True,  # along a random direction instead of number by number
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("term", TERMS)
def test_over_the_decoder_a_term_is_the_mean_of_its_levels_by_their_weights(term: str, kind: str) -> None:
    outputs, finest = at_three_levels(kind)

    def halved(one: torch.Tensor) -> torch.Tensor:
        return one[..., 1::2, 1::2]  # of two voxels, the later one

    half = replace(finest, logits=outputs[1], target=halved(finest.target), maps=finest.maps.changed(halved))
    wanted = (2 * TERMS[term](finest) + TERMS[term](half)) / 3  # the lowest level counts nothing, the others as 2 : 1
    total = deeply_supervised(term, outputs, finest)
    assert total.item() == pytest.approx(wanted.item() * (0.5 if term == BOUNDARY else 1), rel=1e-9)
    total.backward()
    assert outputs[1].grad is not None
    assert outputs[1].grad.any()
    assert outputs[2].grad is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("term", TERMS)
def test_the_gradient_over_the_decoder_is_that_of_the_value(term: str, kind: str) -> None:
    outputs, finest = at_three_levels(kind)
    for batch_dice in (False, True):
        level = replace(finest, batch_dice=batch_dice)
        assert torch.autograd.gradcheck(
            lambda *some, level=level: deeply_supervised(term, some, level), outputs, fast_mode=True
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("term", TERMS)
def test_a_certain_and_right_answer_costs_nothing(term: str, kind: str) -> None:
    level = a_level(kind, torch.zeros(2, 3, 4, 5), a_target(kind))
    wanted = level.answer.wanted(level.target, 3)
    sure = a_level(kind, 100.0 * wanted - 50, a_target(kind))
    assert TERMS[term](sure).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("kind", ["ignored", "regions", "partly drawn", "partly drawn regions"])
def test_where_nothing_is_judged_there_is_nothing_to_learn(term: str, kind: str) -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    loss = TERMS[term](a_level(kind, logits, torch.full((2, 4, 5), 3)))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("kind", ["ignored", "regions"])
def test_ignored_voxels_have_no_gradient_and_others_do_not_feel_them(term: str, kind: str) -> None:
    target = a_target(kind)
    ignored = (target == 3)[:, None].expand(2, 3, 4, 5)
    assert ignored.any()
    logits = torch.randn(2, 3, 4, 5)
    other = torch.where(ignored, torch.randn(2, 3, 4, 5), logits).requires_grad_()
    loss, changed = (TERMS[term](a_level(kind, some, target)) for some in (logits, other))
    changed.backward()
    assert changed.item() == pytest.approx(loss.item(), abs=1e-6)
    assert other.grad is not None
    assert not other.grad[ignored].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("filled", [0, 2])
@pytest.mark.parametrize("term", TERMS)
def test_labels_that_are_absent_make_no_nan(term: str, filled: int, kind: str) -> None:
    target = torch.full((2, 4, 5), filled)
    if kind != "labels":
        target[:, 0] = 3  # ignored
    for batch_dice in (False, True):
        for scale in (1.0, 1e4):  # also of a network that is far too sure of itself
            logits = (scale * torch.randn(2, 3, 4, 5)).requires_grad_()
            loss = TERMS[term](a_level(kind, logits, target, batch_dice))
            loss.backward()
            assert loss.isfinite()
            assert logits.grad is not None
            assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("term", TERMS)
def test_the_parts_of_a_batch_have_the_loss_of_the_whole(term: str, kind: str) -> None:
    """As two processes have it, of which each sees one sample: what they add up is played by hand."""
    logits, target = torch.randn(2, 3, 4, 5), a_target(kind, seed=3)
    whole = a_level(kind, logits, target)
    for batch_dice in (False, True):
        wanted = TERMS[term](a_level(kind, logits, target, batch_dice))
        asked: list[list[torch.Tensor]] = [[], []]
        for number in (0, 1):  # once to hear what each adds, once with the sums
            sample = slice(number, number + 1)

            def hear(tensor: torch.Tensor, said: list[torch.Tensor] = asked[number]) -> torch.Tensor:
                said.append(tensor)
                return tensor

            TERMS[term](of_sample(whole, sample, Part(fraction=0.5, total=hear), batch_dice))
        sums = iter([one + other for one, other in zip(*asked, strict=True)])
        here = of_sample(whole, slice(0, 1), Part(fraction=0.5, total=lambda tensor, sums=sums: next(sums)), batch_dice)
        assert TERMS[term](here).item() == pytest.approx(wanted.item(), abs=1e-5)


def of_sample(level: Level, sample: slice, part: Part, batch_dice: bool) -> Level:
    drawn = None if level.drawn is None else level.drawn[sample]
    maps = level.maps.changed(lambda one: one[sample])
    return Level(
        logits=level.logits[sample],
        target=level.target[sample],
        answer=level.answer,
        drawn=drawn,
        part=part,
        batch_dice=batch_dice,
        maps=maps,
    )


@pytest.mark.parametrize("term", TERMS)
def test_half_precision_is_summed_in_float32(term: str) -> None:
    logits, target = torch.randn(2, 3, 4, 5, dtype=torch.bfloat16), a_target("labels")
    loss = TERMS[term](a_level("labels", logits, target))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, TERMS[term](a_level("labels", logits.float(), target)))


@pytest.mark.parametrize("term", MAPS)
def test_a_term_that_misses_its_map_says_so(term: str) -> None:
    with pytest.raises(ValueError, match="needs the"):
        segmentation_loss(
            torch.zeros(1, 2, 4),
            torch.zeros(1, 4, dtype=torch.long),
            batch_dice=True,
            loss=Loss.named(f"{term}+dice"),
            share_done=0.5,
        )

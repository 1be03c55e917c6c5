"""A step follows the gradient, a look changes nothing, and the counts give the Dice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from nnlite.data.labels import Labels
from nnlite.networks.build import network_of
from nnlite.planning.topology import plan_topology
from nnlite.training.answer import Answer
from nnlite.training.assemble import Batch
from nnlite.training.config import TrainConfig
from nnlite.training.learner import Learner, build_optimizer, overlap_counts, pseudo_dice
from nnlite.training.loss import segmentation_loss

CPU = torch.device("cpu")


class OneLevel(nn.Module):
    """A 1 x 1 convolution that answers like a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        return [self.head(x)] if self.training else self.head(x)


def learner(**settings) -> Learner:
    torch.manual_seed(0)
    return Learner(OneLevel(), TrainConfig(**settings), batch_dice=True, device=CPU)


def batch() -> Batch:
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(images=images, labels=(images[:, 0] > 0).long())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_reduce_the_loss(optimizer: str) -> None:
    learning = learner(optimizer=optimizer, momentum=0.9)
    losses = [learning.step(batch(), 0.1).item() for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_step_of_sgd_moves_by_the_learning_rate_along_the_clipped_gradient() -> None:
    learning = learner(gradient_norm=0.01, momentum=0.99, weight_decay=0.0)
    before = [p.detach().clone() for p in learning.network.parameters()]
    learning.step(batch(), 0.5)
    moved = torch.cat([(p - q).flatten() for p, q in zip(learning.network.parameters(), before, strict=True)])
    # the first Nesterov step is (1 + momentum) x gradient; its norm was clipped to 0.01
    assert moved.norm().item() == pytest.approx(0.5 * 1.99 * 0.01, rel=1e-2)


def test_a_step_tells_the_loss_before_it() -> None:
    learning = learner()
    logits = learning.network.get_submodule("head")(batch().images)
    wanted = segmentation_loss(logits, batch().labels, batch_dice=True).item()
    assert learning.step(batch(), 0.1).item() == pytest.approx(wanted)


def test_a_look_changes_nothing_and_tells_loss_and_overlap() -> None:
    learning = learner()
    learning.network.eval()
    before = copy.deepcopy(learning.network.state_dict())
    loss, counts = learning.look(batch())
    logits = learning.network(batch().images)
    assert loss.item() == pytest.approx(segmentation_loss(logits, batch().labels, batch_dice=True).item())
    assert counts[2].tolist() == torch.bincount(batch().labels.flatten()).tolist()[1:]
    assert all(torch.equal(before[name], value) for name, value in learning.network.state_dict().items())


def test_bfloat16_trains_with_a_loss_in_float32() -> None:
    learning = learner(precision="bf16")
    loss = learning.step(batch(), 0.1)
    assert loss.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in learning.network.parameters())
    assert loss.item() == pytest.approx(learner().step(batch(), 0.1).item(), rel=0.02)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_restored_learner_goes_on_as_the_first_would_have(optimizer: str) -> None:
    first = learner(optimizer=optimizer)
    first.step(batch(), 0.1)
    second = learner(optimizer=optimizer)
    second.restore(copy.deepcopy(first.state()))
    for one in (first, second):
        one.step(batch(), 0.05)
    for p, q in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_trying_to_compile_changes_no_weight_and_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    learning, plain = learner(), learner()
    before = copy.deepcopy(learning.network.state_dict())
    tried: list[float] = []

    def always(network: nn.Module, try_out: Callable[[nn.Module], float]) -> nn.Module:
        tried.append(try_out(network))
        return torch.compile(network, backend="eager")

    monkeypatch.setattr("nnlite.training.learner.compiled_if_faster", always)
    learning.compile_if_faster(batch())
    assert all(torch.equal(before[name], value) for name, value in learning.network.state_dict().items())
    assert all(p.grad is None for p in learning.network.parameters())
    assert learning.state()["network"].keys() == plain.state()["network"].keys()  # no traces of the compiler
    losses = [[one.step(batch(), 0.1).item() for _ in range(3)] for one in (learning, plain)]
    assert losses[0] == pytest.approx(losses[1])
    assert tried == pytest.approx(losses[0][:1])


def test_trying_to_compile_leaves_the_random_numbers_of_dropout_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    learning = learner()

    def try_out_only(network: nn.Module, try_out: Callable[[nn.Module], float]) -> nn.Module:
        torch.rand(3)
        return network

    monkeypatch.setattr("nnlite.training.learner.compiled_if_faster", try_out_only)
    before = torch.get_rng_state()
    learning.compile_if_faster(batch())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_optimiser_is_the_one_asked_for() -> None:
    sgd = build_optimizer(OneLevel(), TrainConfig(optimizer="sgd", momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.8, True)
    assert isinstance(build_optimizer(OneLevel(), TrainConfig(optimizer="adamw")), torch.optim.AdamW)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_optimiser_follows_its_formula(optimizer: str) -> None:
    """Against torch's own optimisers that go from tensor to tensor."""
    config = TrainConfig(optimizer=optimizer, learning_rate=0.05, weight_decay=0.1)
    ours, plain = (torch.nn.Linear(6, 5) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    settings = {"lr": 0.05, "weight_decay": 0.1, "foreach": False, "fused": False}
    reference = (
        torch.optim.SGD(plain.parameters(), momentum=0.99, nesterov=True, **settings)
        if optimizer == "sgd"
        else torch.optim.AdamW(plain.parameters(), **settings)
    )
    for network, stepper in ((ours, build_optimizer(ours, config)), (plain, reference)):
        for number in range(5):
            stepper.zero_grad()
            (network(torch.full((2, 6), number / 5)) ** 2).sum().backward()
            stepper.step()
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 3e-5])
def test_momentum_that_begins_at_zero_is_that_of_torch_to_the_bit(weight_decay: float) -> None:
    """Against torch's own fused SGD, whose first step takes the gradient for the momentum."""
    settings = {"lr": 0.05, "momentum": 0.99, "nesterov": True, "weight_decay": weight_decay, "fused": True}
    ours, plain = (torch.nn.Linear(33, 17) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    config = TrainConfig(learning_rate=0.05, weight_decay=weight_decay)
    images = torch.randn(5, 2, 33, generator=torch.Generator().manual_seed(0))
    images[0, :, ::3] = 0.0  # without weight decay some gradients are 0
    courses = []
    for network, stepper in (
        (ours, build_optimizer(ours, config)),
        (plain, torch.optim.SGD(plain.parameters(), **settings)),
    ):
        seen = []
        for image in images:
            stepper.zero_grad()
            (network(image) ** 2).sum().backward()
            stepper.step()
            seen += [p.detach().clone() for p in network.parameters()]
        courses.append(seen)
    assert all(torch.equal(p, q) for p, q in zip(*courses, strict=True))


@contextmanager
def dirty_memory() -> Iterator[None]:
    """Within the block torch fills memory that nothing was written to with NaN."""
    before, filling = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    fills = filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        filling.fill_uninitialized_memory = fills


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_first_step_that_is_left_out_leaves_nothing_behind(optimizer: str, resumed: bool) -> None:
    late, early = learner(optimizer=optimizer), learner(optimizer=optimizer)
    absurd = replace(batch(), images=torch.full_like(batch().images, torch.nan))
    with dirty_memory():
        late.step(absurd, 0.1)
        if resumed:
            state, late = copy.deepcopy(late.state()), learner(optimizer=optimizer)
            late.restore(state)
        for one in (late, early):
            for _ in range(2):
                one.step(batch(), 0.1)
    assert late.look_for_skipped("here") == 1
    for p, q in zip(late.network.parameters(), early.network.parameters(), strict=True):
        assert torch.equal(p, q)


def sure_of(predicted: torch.Tensor, labels: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(predicted, labels).movedim(-1, 1).float()


def test_overlaps_are_those_of_counting_voxel_by_voxel() -> None:
    predicted, target = torch.randint(0, 5, (2, 2, 3, 4, 5)).unbind()
    counts = overlap_counts(sure_of(predicted, 6), target)
    for label in range(1, 6):
        hits, said, wanted = (predicted == label) & (target == label), predicted == label, target == label
        assert counts[:, label - 1].tolist() == [int(mask.sum()) for mask in (hits, said, wanted)]


def test_overlaps_are_counted_per_label() -> None:
    predicted, target = torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 2, 2, 1]])
    hits, said, wanted = overlap_counts(sure_of(predicted, 4), target).tolist()
    assert (hits, said, wanted) == ([0, 1, 0], [1, 2, 0], [1, 2, 0])


def test_overlaps_leave_out_what_is_ignored() -> None:
    predicted, target = torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 1, 2, 0]])
    hits, said, wanted = overlap_counts(sure_of(predicted, 2), target, Answer(ignore=2)).tolist()
    assert (hits, said, wanted) == ([1], [2], [1])


def test_overlaps_of_regions_count_each_region_for_itself() -> None:
    whole, core = [3.0, 3.0, 3.0, -3.0, 3.0], [-3.0, -3.0, 3.0, 3.0, 3.0]
    labels = Labels.from_table({"whole": [1, 2], "core": 2, "ignore": 3})
    target = torch.tensor([[0, 1, 2, 2, 3]])  # the last one, ignored, counts in neither
    counts = overlap_counts(torch.tensor([[whole, core]]), target, Answer.to(labels, CPU))
    assert counts.tolist() == [[2, 2], [3, 2], [3, 2]]


def test_pseudo_dice_leaves_out_what_is_nowhere() -> None:
    counts = torch.tensor([[3, 0, 0], [4, 0, 5], [8, 0, 0]])
    assert pseudo_dice(counts) == (2 * 3 / 12, None, 0.0)


def test_overlaps_leave_out_what_was_not_drawn_sample_by_sample() -> None:
    predicted, target = torch.tensor([[0, 1, 2, 2], [1, 2, 2, 0]]), torch.tensor([[0, 1, 0, 0], [1, 2, 0, 0]])
    drawn = torch.tensor([[True, True, False], [True, True, True]])  # nobody looked for label 2 in the first sample
    hits, said, wanted = overlap_counts(sure_of(predicted, 3), target, drawn=drawn).tolist()
    assert (hits, said, wanted) == ([2, 1], [2, 2], [2, 1])


def test_overlaps_of_regions_leave_out_what_was_not_drawn() -> None:
    whole, core = [3.0, 3.0, 3.0, -3.0], [-3.0, 3.0, 3.0, 3.0]
    labels, target = Labels.from_table({"whole": [1, 2], "core": 2}), torch.tensor([[0, 1, 1, 1]])
    logits, drawn = torch.tensor([[whole, core]]), torch.tensor([[True, False]])
    assert overlap_counts(logits, target, Answer.to(labels, CPU), drawn).tolist() == [[2, 0], [3, 0], [3, 0]]


def test_a_restored_learner_draws_the_dropout_that_the_first_would_have_drawn() -> None:
    topology, patch = plan_topology((1.0, 1.0), (8, 8), architecture="unet-2015", base_features=4)
    seen = Batch(images=torch.randn(2, 1, *topology.seen_size(patch)), labels=torch.randint(0, 2, (2, *patch)))

    def learning() -> Learner:
        network = network_of(topology, channels=1, labels=2).train()
        return Learner(network, TrainConfig(), batch_dice=False, device=CPU)

    first = learning()
    first.step(seen, 0.1)
    state = copy.deepcopy(first.state())
    first.step(seen, 0.05)
    second = learning()
    second.restore(state)
    second.step(seen, 0.05)
    for p, q in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_state_of_another_kind_of_device_is_gone_on_from_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    first, second = learner(), learner()
    first.step(batch(), 0.1)
    of_a_gpu = torch.zeros(16, dtype=torch.uint8)  # its generator's state: seed and offset
    before = torch.get_rng_state()
    second.restore({**copy.deepcopy(first.state()), "random": of_a_gpu})
    assert caplog.messages == [
        "the state was saved on another kind of device; training goes on on cpu, where sums are rounded otherwise and "
        "dropout is drawn anew"
    ]
    assert torch.equal(torch.get_rng_state(), before)
    for p, q in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(p, q)
    second.restore(first.state())
    assert len(caplog.messages) == 1  # one of the same kind needs no remark


class ShortOfMemory(nn.Module):
    """A network on a device that has memory for one sample at a time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        outputs: list[torch.Tensor] = self.network(x)
        return outputs


def test_a_batch_in_parts_has_the_gradients_of_the_whole_also_where_stages_are_computed_twice() -> None:
    topology, _ = plan_topology((1.0, 1.0), (8, 8), base_features=4, checkpointing=True)
    gradients = []
    for wrapped in (nn.Sequential, ShortOfMemory):
        torch.manual_seed(0)
        network = wrapped(network_of(topology, channels=1, labels=2))
        learning = Learner(network, TrainConfig(precision="fp32"), batch_dice=False, device=CPU)
        learning.step(batch(), 0.0)
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    assert learning.parts.number == 2
    assert all(torch.allclose(whole, parts, atol=1e-6) for whole, parts in zip(*gradients, strict=True))

"""A compiled network is used where it works and pays, and nowhere else."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import torch
from torch import nn

from nnlite.training.compiled import compiled_if_faster


class Trial:
    """A try-out on a clock of its own: a module takes the seconds that are said here, and gives this loss."""

    def __init__(self, eager: nn.Module, *, eager_s: float, compiled_s: float, compiled_loss: float = 1.0):
        self.eager, self.time_s = eager, 0.0
        self.seconds, self.losses = (compiled_s, eager_s), (compiled_loss, 1.0)

    def __call__(self, module: nn.Module) -> float:
        is_eager = module is self.eager
        self.time_s += self.seconds[is_eager]
        return self.losses[is_eager]

    def choose(self, compiled: nn.Module) -> nn.Module:
        return compiled_if_faster(self.eager, self, compiler=lambda _: compiled, clock=lambda: self.time_s)


NETWORK, COMPILED = nn.Linear(1, 1), nn.Linear(1, 1)


@pytest.mark.parametrize(("compiled_s", "chosen"), [(0.8, COMPILED), (0.96, COMPILED), (0.98, NETWORK), (2.0, NETWORK)])
def test_the_compiled_network_is_taken_where_it_is_clearly_faster(compiled_s: float, chosen: nn.Module) -> None:
    assert Trial(NETWORK, eager_s=1.0, compiled_s=compiled_s).choose(COMPILED) is chosen


@pytest.mark.parametrize(("loss", "chosen"), [(1.005, COMPILED), (1.02, NETWORK), (float("nan"), NETWORK)])
def test_a_compiled_network_that_gives_another_loss_is_not_taken(loss: float, chosen: nn.Module) -> None:
    assert Trial(NETWORK, eager_s=1.0, compiled_s=0.5, compiled_loss=loss).choose(COMPILED) is chosen


def test_a_compiler_that_fails_leaves_the_network_and_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(network: nn.Module) -> nn.Module:
        raise RuntimeError("no C++ compiler")

    assert compiled_if_faster(NETWORK, lambda _: 1.0, compiler=broken) is NETWORK
    assert "no C++ compiler" in caplog.text


def test_a_network_that_fails_when_it_is_compiled_at_last_is_left_too(caplog: pytest.LogCaptureFixture) -> None:
    def backend(graph: object, inputs: object) -> None:
        raise RuntimeError("unknown operator")

    network = nn.Linear(2, 2)
    compiler = partial(torch.compile, backend=backend)

    def try_out(module: nn.Module) -> float:
        return float(module(torch.ones(1, 2)).sum().detach())

    assert compiled_if_faster(network, try_out, compiler=compiler) is network
    assert "unknown operator" in caplog.text


def test_a_real_compiled_network_gives_the_same_loss(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LeakyReLU())
    with caplog.at_level(logging.INFO):
        chosen = compiled_if_faster(
            network,
            lambda module: float(module(torch.ones(1, 1, 8, 8)).sum().detach()),
            compiler=partial(torch.compile, backend="eager"),
        )
    assert "a pass takes" in caplog.text  # the losses agreed, so time decided
    assert torch.equal(chosen(torch.ones(1, 1, 8, 8)), network(torch.ones(1, 1, 8, 8)))


def test_dropout_does_not_make_a_compiled_network_look_wrong(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    network, seen = nn.Sequential(nn.Conv1d(1, 1, 1), nn.Dropout(0.5)), torch.ones(1, 1, 64)
    nn.init.ones_(network[0].weight)
    losses: list[float] = []

    def try_out(module: nn.Module) -> float:
        losses.append(float(module(seen).square().sum().detach()))
        return losses[-1]

    with caplog.at_level(logging.INFO):
        compiled_if_faster(network, try_out, compiler=partial(torch.compile, backend="eager"))
    assert "a pass takes" in caplog.text
    assert losses[0] == pytest.approx(losses[1])
    assert len({round(loss, 3) for loss in losses[2:]}) > 1  # time was taken with dropout
    assert all(module.training for module in network)

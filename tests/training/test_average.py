"""The average follows the weights by its formula, and goes on where it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nnlite.training.average import Average


def a_network(value: float) -> nn.Linear:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, value)
    nn.init.constant_(network.bias, -value)
    return network


def test_the_average_follows_its_formula() -> None:
    average, wanted = Average(a_network(5.0), decay=0.25), 0.0
    for steps, value in enumerate([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]):
        average.follow(a_network(value))
        decay = min(0.25, steps / (steps + 9))  # 0, 1/10, 2/11, 1/4, ..
        wanted = decay * wanted + (1 - decay) * value
        assert average.network.get_parameter("weight").item() == pytest.approx(wanted)
        assert average.network.get_parameter("bias").item() == pytest.approx(-wanted)


def test_a_long_average_forgets_where_the_weights_began() -> None:
    average = Average(a_network(1e6), decay=0.999)
    for _ in range(300):
        average.follow(a_network(3.0))
    assert average.network.get_parameter("weight").item() == pytest.approx(3.0)


def test_values_that_are_no_weights_are_those_of_the_last_step() -> None:
    network = nn.BatchNorm1d(2)
    average = Average(network, decay=0.9)
    network(torch.randn(8, 2))
    average.follow(network)
    assert torch.equal(average.network.get_buffer("running_mean"), network.get_buffer("running_mean"))


def test_a_restored_average_goes_on_as_the_first_would_have() -> None:
    first, second = Average(a_network(1.0), decay=0.5), Average(a_network(7.0), decay=0.5)
    first.follow(a_network(2.0))
    second.restore(copy.deepcopy(first.state()))
    for one in (first, second):
        one.follow(a_network(3.0))
    assert torch.equal(first.network.get_parameter("weight"), second.network.get_parameter("weight"))


def test_the_averages_are_not_trained() -> None:
    average = Average(a_network(1.0), decay=0.5)
    assert not any(weight.requires_grad for weight in average.network.parameters())
    assert not average.network.training

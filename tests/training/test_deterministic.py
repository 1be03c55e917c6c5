"""Deterministic operations are asked for within the block, and what was set before is set again."""

from __future__ import annotations

import os

import pytest
import torch

from nnlite.training.deterministic import CUBLAS_DETERMINISTIC, deterministic_operations, mean_nll


def settings() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    fills = torch.utils.deterministic.fill_uninitialized_memory
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark, fills


def test_only_who_wants_them_gets_them() -> None:
    before = settings()
    with deterministic_operations(False):
        assert settings() == before


def test_they_hold_within_the_block_whatever_happens_there() -> None:
    before = settings()
    within = []

    def fail() -> None:
        with deterministic_operations(True):
            within.append(settings())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert within == [(True, True, False, False)]
    assert settings() == before


def test_they_come_with_the_variable_that_cublas_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    name, value = CUBLAS_DETERMINISTIC
    monkeypatch.setenv(name, ":16:8")
    with deterministic_operations(True):
        assert os.environ[name] == ":16:8"  # the other value that torch takes, chosen by its user
    monkeypatch.delenv(name)
    with deterministic_operations(False):
        assert name not in os.environ
    with deterministic_operations(True):
        assert os.environ[name] == value


def test_the_mean_loss_is_the_same_either_way() -> None:
    logarithms = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).log_softmax(dim=1)
    target = torch.arange(40).view(2, 4, 5) % 3
    plain = mean_nll(logarithms, target)
    with deterministic_operations(True):
        torch.testing.assert_close(mean_nll(logarithms, target), plain)

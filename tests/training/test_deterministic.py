"""Deterministic operations are asked for within the block, and what was set before is set again."""

from __future__ import annotations

import pytest
import torch

from nnlite.training.deterministic import deterministic_operations


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

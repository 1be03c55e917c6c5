"""A gate lets through what the coarser scale points at, and no more."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnlite.networks.attention_unet import AttentionGate


def test_a_gate_hands_on_all_of_a_skip_or_nothing() -> None:
    gate, skip, below = AttentionGate(4, 8, (2, 2)), torch.randn(2, 4, 16, 16), torch.randn(2, 8, 8, 8)
    nn.init.zeros_(gate.psi.get_parameter("weight"))
    for bias, wanted in ((20.0, skip), (-20.0, torch.zeros_like(skip))):  # sigmoid(20) is 1 - 2e-9
        nn.init.constant_(gate.psi.get_parameter("bias"), bias)
        torch.testing.assert_close(gate(skip, below), wanted, atol=1e-6, rtol=0)


def test_a_voxel_of_the_coarser_scale_weights_the_skip_around_it_alone() -> None:
    gate, skip, below = AttentionGate(4, 8, (2, 2)), torch.randn(1, 4, 16, 16), torch.rand(1, 8, 8, 8)
    for weights in gate.parameters():
        weights.data.abs_()
    skip.abs_()  # nothing is negative, so the ReLU cuts nothing off
    changed = below.clone()
    changed[..., 4, 2] += 1
    before, after = gate(skip, below), gate(skip, changed)
    # Voxel i of the skip lies at (i + 1/2) / 2 - 1/2 of the coarser scale: nearer than 1 to 4 are 7 to 10, to 2 3 to 6.
    reached = (before != after).any(1)[0].nonzero()
    assert reached.tolist() == [[y, x] for y in range(7, 11) for x in range(3, 7)]


@pytest.mark.parametrize("size", [(8, 8), (8, 8, 8)])
def test_a_gate_hands_a_skip_on_in_the_precision_it_came_in(size: tuple[int, ...]) -> None:
    gate, below = AttentionGate(4, 8, (2,) * len(size)), tuple(length // 2 for length in size)
    # On a GPU the weights are float32 where the skip is bfloat16; here they are bfloat16 where the skip is float16.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        skip = torch.randn(1, 4, *size).half()
        assert gate(skip, torch.randn(1, 8, *below)).dtype == torch.float16
    whole = torch.randn(1, 4, *size)
    assert gate(whole, torch.randn(1, 8, *below)).dtype == torch.float32

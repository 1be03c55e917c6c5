"""Blocks keep sizes and statistics, and a residual block begins as its skip."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnlite.networks import blocks
from nnlite.networks.blocks import (
    AveragePool3d,
    ConvolutionBlock,
    Dropout,
    InstanceNorm,
    ResidualBlock,
    convolution,
    draw_dropout_for_all,
    initialize,
    without_shortcuts,
)
from nnlite.training.deterministic import deterministic_operations


@pytest.mark.parametrize(("kernel", "size"), [((1, 3), (5, 6)), ((3, 3, 3), (4, 5, 6)), ((1, 3, 3), (1, 7, 4))])
def test_a_convolution_of_stride_one_keeps_the_size(kernel: tuple[int, ...], size: tuple[int, ...]) -> None:
    layer = convolution(2, 3, kernel, (1,) * len(kernel))
    assert layer(torch.randn(1, 2, *size)).shape == (1, 3, *size)


def test_a_strided_convolution_divides_the_size_by_the_stride() -> None:
    layer = convolution(1, 1, (1, 3, 3), (1, 2, 2))
    assert layer(torch.randn(1, 1, 3, 8, 10)).shape == (1, 1, 3, 4, 5)


def test_a_block_normalises_each_feature_of_each_sample_before_the_leaky_relu() -> None:
    block = ConvolutionBlock(1, 4, (3, 3))
    out = block(5 + 3 * torch.randn(2, 1, 16, 16))
    before = torch.where(out < 0, out / 0.01, out)
    assert before.mean((2, 3)).abs().max() < 1e-4
    assert (before.var((2, 3), correction=0) - 1).abs().max() < 1e-3


def test_a_residual_block_starts_as_its_skip_alone() -> None:
    x = torch.randn(2, 3, 8, 8)
    block = ResidualBlock(3, 3, (3, 3), (1, 1))
    initialize(block)
    assert torch.allclose(block(x), functional.leaky_relu(x, 0.01))
    strided = ResidualBlock(3, 3, (3, 3), (2, 1))
    initialize(strided)
    assert torch.allclose(strided(x), functional.leaky_relu(functional.avg_pool2d(x, (2, 1)), 0.01))


def test_processes_that_share_a_batch_drop_what_one_process_drops() -> None:
    x, parts, states = torch.randn(3, 8, 4, 4), [], []
    torch.manual_seed(0)
    whole = nn.Sequential(Dropout(0.5))(x)
    state = torch.get_rng_state()
    for first, stop in ((0, 2), (2, 3)):
        network = nn.Sequential(Dropout(0.5))
        draw_dropout_for_all(network, first, 3)
        torch.manual_seed(0)
        parts.append(network(x[first:stop]))
        states.append(torch.get_rng_state())
        assert torch.equal(network.eval()(x[first:stop]), x[first:stop])
    assert torch.equal(torch.cat(parts), whole)
    assert all(torch.equal(one, state) for one in states)  # so the next masks are those of one process, too


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 2, 4)])
def test_both_ways_to_average_blocks_give_the_same_means_and_gradients(sizes: tuple[int, int, int]) -> None:
    pool, found = AveragePool3d(sizes), []
    x = torch.randn(2, 3, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    for way in (nn.AvgPool3d(sizes), pool, pool.means):
        given = x.clone().requires_grad_()
        means = way(given)
        means.square().sum().backward()
        found.append((means, given.grad))
    assert all(torch.equal(*pair) for pair in zip(found[0], found[1], strict=True))
    for pair in zip(found[0], found[2], strict=True):
        torch.testing.assert_close(*pair, atol=1e-6, rtol=0)


def test_a_deterministic_average_has_a_backward_that_gpus_can_do() -> None:
    """The device "meta" computes nothing; as a GPU it is no CPU."""
    pool = ResidualBlock(2, 2, (3, 3, 3), (1, 2, 2)).skip[0]
    elsewhere, here = torch.ones(1, 2, 4, 4, 4, device="meta", requires_grad=True), torch.randn(1, 2, 4, 4, 4)
    assert [name for name in backward_of(pool(elsewhere)) if "AvgPool3D" in name]
    with deterministic_operations(True):
        means = pool(elsewhere)
        assert torch.equal(pool(here), functional.avg_pool3d(here, (1, 2, 2)))  # a CPU has no need of it
    assert means.shape == (1, 2, 4, 2, 2)
    assert not [name for name in backward_of(means) if "AvgPool3D" in name]


def backward_of(output: torch.Tensor) -> list[str]:
    """Names of all steps that lead back from an output."""
    waiting, names = [output.grad_fn], []
    while waiting:
        step = waiting.pop()
        if step is not None:
            names.append(step.name())
            waiting += [before for before, _ in step.next_functions]
    return names


def test_a_residual_block_projects_its_skip_only_where_the_width_changes() -> None:
    same, wider = ResidualBlock(2, 2, (3, 3), (2, 2)), ResidualBlock(2, 5, (3, 3), (2, 2))
    assert sum(p.numel() for p in same.skip.parameters()) == 0
    assert sum(p.numel() for p in wider.skip.parameters()) == 2 * 5 + 2 * 5  # 1 x 1 without bias, scale and shift
    assert wider(torch.randn(1, 2, 8, 8)).shape == (1, 5, 4, 4)


def test_a_residual_block_learns_although_it_starts_as_its_skip() -> None:
    block = ResidualBlock(2, 2, (3, 3), (1, 1))
    initialize(block)
    block(torch.randn(1, 2, 8, 8)).square().sum().backward()
    scale = block.second[-1].get_parameter("weight")
    assert scale.grad is not None
    assert scale.grad.abs().min() > 0


def test_weights_are_drawn_for_leaky_relu_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3)
    initialize(layer)
    wanted = (2 / (1 + 0.01**2) / (64 * 9)) ** 0.5  # He et al.: variance 2 / ((1 + slope^2) x inputs)
    assert layer.weight.std().item() == pytest.approx(wanted, rel=0.02)
    assert layer.bias is not None
    assert not layer.bias.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("ndim", "theirs"), [(2, nn.InstanceNorm2d), (3, nn.InstanceNorm3d)])
def test_the_normalisation_is_torch_s_own_to_the_bit_forward_and_backward(ndim: int, theirs, dtype) -> None:
    torch.manual_seed(0)
    ours, reference = InstanceNorm(6), theirs(6, affine=True)
    for module in (ours, reference):
        nn.init.uniform_(module.weight, generator=torch.Generator().manual_seed(1))
        nn.init.uniform_(module.bias, generator=torch.Generator().manual_seed(2))
    image, gradient = torch.randn(2, 3, 6, *(8,) * ndim).to(dtype)
    inputs = [image.clone().requires_grad_() for _ in range(2)]
    outputs = [module(one) for module, one in zip((ours, reference), inputs, strict=True)]
    for out in outputs:
        out.backward(gradient)
    assert torch.equal(*outputs)
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    assert torch.equal(ours.weight.grad, reference.weight.grad)


def test_an_activation_may_overwrite_the_normalised_maps_without_copies_in_its_backward() -> None:
    out = ConvolutionBlock(1, 4, (3, 3))(torch.randn(2, 1, 16, 16))
    assert out.grad_fn.name() == "LeakyReluBackward1"  # what overwrites a view ends in AsStridedBackward0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the short ways that are taken, as they are."""
    taken: list[str] = []
    for owner, name in ((blocks, "_convolve_one"), (InstanceNorm, "_in_place")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, do=original, name=name: taken.append(name) or do(*given))
    return taken


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3, 3), (3, 3, 3)])
def test_shortcuts_change_no_more_than_the_rounding(kernel: tuple[int, ...], samples: int, calls: list[str]) -> None:
    torch.manual_seed(0)
    block = ConvolutionBlock(3, 5, kernel, (2,) * len(kernel))
    nn.init.uniform_(block[1].weight)
    nn.init.uniform_(block[1].bias)
    image = 40 + 7 * torch.randn(samples, 3, *(12,) * len(kernel))
    with torch.no_grad():
        short = block(image)
        assert calls == (["_convolve_one"] if samples == 1 else []) + ["_in_place"]
        without_shortcuts(block)
        plain = block(image)
        exact = block.double()(image.double())
    assert len(calls) == 3 - samples  # none since
    torch.testing.assert_close(short.double(), exact, atol=4 * float((plain - exact).abs().max()), rtol=0)


def test_constant_maps_become_the_shift() -> None:
    norm = InstanceNorm(2)
    nn.init.constant_(norm.bias, 3.0)
    with torch.no_grad():
        assert norm(torch.full((1, 2, 4, 4, 4), 7.0)).tolist() == torch.full((1, 2, 4, 4, 4), 3.0).tolist()


def test_shortcuts_are_for_float32_without_gradients_alone(calls: list[str]) -> None:
    block, image = ConvolutionBlock(1, 2, (3, 3)), torch.randn(1, 1, 8, 8)
    block(image)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert block[0](image).dtype == torch.bfloat16
        block(image)
    with torch.no_grad():
        block.double()(image.double())
    assert calls == []


@pytest.mark.parametrize(
    ("size", "kernel"), [((2, 8, 8), 3), ((4, 8, 8), 5), ((6, 8, 8), 7), ((8, 1, 8), 5), ((8, 1, 8), 7), ((8, 2, 8), 7)]
)
def test_fewer_planes_or_rows_than_the_kernel_has_leave_the_gradient_true_in_bfloat16(
    size: tuple[int, ...], kernel: int
) -> None:
    layer = convolution(16, 16, (kernel,) * 3, (1, 1, 1))
    x, wanted = torch.randn(2, 16, *size), torch.randn(2, 16, *size)
    gradients = []
    for half in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = layer(x)
        assert output.dtype == (torch.bfloat16 if half else torch.float32)
        output.backward(wanted.to(output.dtype))
        gradients.append(layer.get_parameter("weight").grad)
    assert torch.allclose(*gradients, atol=0.02 * float(gradients[0].abs().max()))

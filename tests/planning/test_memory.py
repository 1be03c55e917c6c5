from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nnlite.planning.architectures import ARCHITECTURES
from nnlite.planning.counts import parameter_count
from nnlite.planning.memory import Device, Optimizer, Precision, StepMemory, step_memory, window_memory
from nnlite.planning.topology import Topology, plan_topology


def memory_of(
    topology: Topology, patch: tuple[int, ...], batch: int = 2, *, labels: int = 3, device: Device = "cpu"
) -> StepMemory:
    return step_memory(topology, patch, batch, channels=1, labels=labels, precision="fp32", device=device)


def allocated(work: Callable[[], object], folder: Path) -> int:
    """The largest running sum of the bytes that torch's own profiler saw allocated and freed."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # a thread per sample, as the model supposes
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            work()
    finally:
        torch.set_num_threads(threads)
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    alive = peak = 0
    for event in sorted((event for event in events if event.get("name") == "[memory]"), key=lambda e: e["ts"]):
        alive += event["args"]["Bytes"]
        peak = max(peak, alive)
    return peak


SIZES = [
    ((64, 64), "unet"),
    ((16, 16, 16), "unet"),
    ((16, 16, 16), "resenc"),
    ((64, 64), "unet++"),
    ((16, 16, 16), "unet++"),
    ((52, 52), "unet-2015"),
    ((12, 16, 12), "unet-2015"),
    ((64, 64), "vnet"),
    ((16, 16, 16), "vnet"),
    ((64, 64), "attention-unet"),
    ((16, 16, 16), "attention-unet"),
]


def assert_step_is_predicted(
    topology: Topology, patch: tuple[int, ...], precision: Precision, optimizer: Optimizer, folder: Path
) -> None:
    import torch

    from nnlite.networks.build import network_of
    from nnlite.training.assemble import Batch
    from nnlite.training.config import TrainConfig
    from nnlite.training.learner import Learner

    def two_steps() -> None:  # the second has the optimiser's state and the gradients of the first
        network = network_of(topology, channels=2, labels=5)
        config = TrainConfig(optimizer=optimizer, precision=precision)
        learner = Learner(network, config, batch_dice=True, device=torch.device("cpu"))
        batch = Batch(images=torch.randn(2, 2, *topology.seen_size(patch)), labels=torch.randint(0, 5, (2, *patch)))
        for _ in range(2):
            learner.step(batch, 1e-3)

    memory = step_memory(
        topology, patch, 2, channels=2, labels=5, precision=precision, optimizer=optimizer, device="cpu"
    )
    assert memory.peak == pytest.approx(allocated(two_steps, folder), rel=0.1)


@pytest.mark.parametrize(
    ("precision", "optimizer", "checkpointing"),
    [("fp32", "sgd", False), ("bf16", "adamw", False), ("fp32", "sgd", True)],
)
@pytest.mark.parametrize(("size", "architecture"), SIZES)
def test_a_step_allocates_within_a_tenth_of_what_was_predicted(
    size, architecture, precision, optimizer, checkpointing: bool, tmp_path: Path
) -> None:
    topology, patch = plan_topology(
        (1.0,) * len(size),
        size,
        architecture=architecture,
        checkpointing=checkpointing,
        base_features=16,
        max_features=64,
    )

    assert_step_is_predicted(topology, patch, precision, optimizer, tmp_path)


@pytest.mark.parametrize(
    ("precision", "optimizer", "checkpointing"),
    [("fp32", "sgd", False), ("bf16", "adamw", False), ("fp32", "sgd", True)],
)
@pytest.mark.parametrize("architecture", ["unet", "resenc"])
@pytest.mark.parametrize(("encoders", "stem"), [((1, 1), "plain"), ((), "multi-scale"), ((1, 1), "multi-scale")])
def test_so_does_a_step_with_separate_encoders_or_a_multi_scale_stem(
    architecture, encoders, stem, precision, optimizer, checkpointing: bool, tmp_path: Path
) -> None:
    topology, patch = plan_topology(
        (1.0,) * 3,
        (16, 16, 16),
        architecture=architecture,
        checkpointing=checkpointing,
        encoders=encoders,
        stem=stem,
        base_features=16,
        max_features=64,
    )
    assert_step_is_predicted(topology, patch, precision, optimizer, tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("size", "architecture"), SIZES)
def test_windows_and_their_mirror_images_allocate_within_a_tenth_of_what_was_predicted(
    size, architecture, precision, tmp_path: Path
) -> None:
    import torch

    from nnlite.inference.sliding_window import mirrored_mean
    from nnlite.networks.build import network_of

    topology, patch = plan_topology(
        (1.0,) * len(size), size, architecture=architecture, base_features=16, max_features=64
    )

    def predict() -> None:
        network, windows = (
            network_of(topology, channels=2, labels=5).eval(),
            torch.randn(2, 2, *topology.seen_size(patch)),
        )
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            mirrored_mean(network, windows, axes=(0, 1), at_once=2)

    needed = window_memory(topology, patch, 2, channels=2, labels=5, precision=precision, device="cpu")
    assert needed == pytest.approx(allocated(predict, tmp_path), rel=0.1)


def test_a_large_batch_is_fullest_where_the_head_is_differentiated() -> None:
    # 32 samples of 8 x 8 with 16 features: a map is 16 x 2048 x 4 bytes, one of the bottleneck half of that.
    topology, patch = plan_topology((1.0, 1.0), (8, 8), base_features=16)
    memory = memory_of(topology, patch, 32, labels=2)
    one = 16 * 2048 * 4
    # Two per convolution (its output and the activation's), 2 + 2 at full resolution and 2 below; the cat takes two.
    assert memory.activations == 2 * (2 + 2) * one + 2 * 2 * (one // 2) + 2 * one + 2 * 2048 * 4  # and the logits
    # The gradient of the logits, that of the head's input, copies of both (two labels padded to 16), twice the weights.
    assert memory.passing == 2 * 2048 * 4 + one + 2 * one + 2 * 2 * (16 + 1) * 4
    assert memory.gradients == 0  # the head is the first on the way back
    assert memory.batch == 2048 * (4 + 8)


def test_a_small_batch_is_fullest_where_the_optimiser_works_on_the_largest_weights() -> None:
    topology, patch = plan_topology((1.0, 1.0), (8, 8))  # 32 and 64 features
    weights = 4 * parameter_count(topology, channels=1, labels=2)
    memory = step_memory(topology, patch, 1, channels=1, labels=2, precision="fp32", optimizer="adamw", device="cpu")
    assert (memory.parameters, memory.gradients, memory.optimizer) == (weights, weights, 2 * weights)
    assert memory.activations == 2 * 64 * 4  # logits
    assert memory.passing == 2 * 64 * (64 * 9 + 1) * 4  # two temporaries of the bottleneck's second convolution
    assert memory.peak == 4 * weights + memory.batch + memory.activations + memory.passing
    on_gpu = step_memory(topology, patch, 1, channels=1, labels=2, precision="fp32", device="cuda")
    assert on_gpu.passing == on_gpu.parameters  # there all weights are stepped at once


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_parameters_are_those_of_the_network_in_four_bytes_each(architecture, device: Device) -> None:
    topology, patch = plan_topology((3.0, 1.0, 1.0), (8, 32, 32), architecture=architecture)
    memory = memory_of(topology, patch, device=device)
    assert memory.parameters == 4 * parameter_count(topology, channels=1, labels=3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_more_of_anything_needs_more_memory(architecture, device: Device, precision) -> None:
    topology, patch = plan_topology((1.0,) * 3, (64, 64, 64), architecture=architecture)
    longer = (64 + topology.divisor[0], *patch[1:])

    def needed(patch: tuple[int, ...] = patch, batch: int = 2, channels: int = 1, labels: int = 3) -> tuple[int, int]:
        step = partial(step_memory, topology, channels=channels, labels=labels, precision=precision, device=device)
        window = partial(window_memory, topology, channels=channels, labels=labels, precision=precision, device=device)
        return step(patch, batch).peak, window(patch, batch)

    step, window = needed()
    for more in (needed(patch=longer), needed(batch=3), needed(channels=4), needed(labels=30)):
        assert more[0] > step
        assert more[1] > window
    assert step > window


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stages_that_are_computed_twice_keep_less(architecture) -> None:
    topology, patch = plan_topology((1.0,) * 3, (64, 64, 64), architecture=architecture)
    once, twice = memory_of(topology, patch), memory_of(replace(topology, checkpointing=True), patch)
    most = 1.0 if architecture == "unet-2015" else 0.9  # it is fullest in its first stage, which sees most by far
    assert twice.peak <= most * once.peak
    assert twice.parameters == once.parameters


def test_half_precision_halves_no_more_than_the_activations() -> None:
    topology, patch = plan_topology((1.0,) * 3, (64, 64, 64))
    memory = partial(step_memory, topology, patch, 2, channels=1, labels=3, device="cuda")
    full, half = memory(precision="fp32"), memory(precision="bf16")
    assert half.parameters == full.parameters
    assert full.activations / 2 < half.activations < full.activations


def test_the_peak_is_the_sum_of_its_parts() -> None:
    parts = {"parameters": 1, "gradients": 2, "optimizer": 4, "batch": 8, "activations": 16, "passing": 32}
    assert StepMemory(**parts).peak == math.fsum(parts.values())

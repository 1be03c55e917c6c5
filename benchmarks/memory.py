"""Shows the memory model beside what torch really allocates in a training step and in predicting a batch of windows.

    python benchmarks/memory.py [--device cuda] [--json FILE]

On a CPU "allocated" is the peak of tensor bytes by torch's own profiler, which noise does not touch; "resident" is by
how much the largest resident set of the process exceeds what it was before the network was built, what the profiler
notes down and what it does not see included. On a GPU "allocated" and "reserved" are the peaks of torch's caching
allocator. Every row is measured in a process of its own, over two steps: the second has the optimiser's state.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from nnlite.inference.sliding_window import mirrored_mean
from nnlite.networks.build import network_of
from nnlite.planning.memory import Device, Optimizer, Precision, step_memory, window_memory
from nnlite.planning.topology import Architecture, Topology, plan_topology
from nnlite.training.assemble import Batch
from nnlite.training.config import AUTOCAST, TrainConfig
from nnlite.training.learner import Learner

GIB = 2**30
LABELS, CHANNELS = 3, 1
CPU_CASES: tuple[tuple[Architecture, tuple[int, ...], int], ...] = (
    ("unet", (192, 192), 4),
    ("unet", (384, 320), 4),
    ("resenc", (192, 192), 4),
    ("resenc", (384, 320), 4),
    ("unet", (40, 56, 40), 2),
    ("unet", (64, 96, 64), 2),
    ("resenc", (40, 56, 40), 2),
    ("resenc", (64, 96, 64), 2),
)
GPU_GIB: dict[
    tuple[int, Architecture], tuple[float, ...]
] = {  # what the plans for a GPU are to fill, by number of axes and architecture
    (3, "unet"): (4, 8, 16, 32, 64, 80),
    (3, "resenc"): (4, 12, 24, 48, 72),
    (2, "unet"): (4, 12, 40),
    (2, "resenc"): (8, 24),
}
FIRST_EDGE, LAST_EDGE, EDGE_STEP = {2: 256, 3: 64}, {2: 768, 3: 256}, {2: 64, 3: 32}  # voxels, by number of axes
SPARE_GIB = 4.0  # of a GPU, for CUDA itself and what the allocator cannot use


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network, what it is fed, and how it is trained."""

    topology: Topology
    patch_size: tuple[int, ...]
    batch_size: int
    precision: Precision
    optimizer: Optimizer
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Peaks in GiB; ``beside_gib`` is the resident set on a CPU, the allocator's reserve on a GPU."""

    network: str
    patch: str
    batch: int
    precision: str
    step_predicted_gib: float
    step_allocated_gib: float
    beside_gib: float
    window_predicted_gib: float
    window_allocated_gib: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        gib = (self.step_predicted_gib, self.step_allocated_gib, self.beside_gib)
        windows = (self.window_predicted_gib, self.window_allocated_gib)
        return (
            *(self.network, self.patch, str(self.batch), self.precision),
            *(f"{value:.3f}" for value in gib),
            f"{self.step_predicted_gib / self.step_allocated_gib:.3f}",
            *(f"{value:.3f}" for value in windows),
            f"{self.window_predicted_gib / self.window_allocated_gib:.3f}",
        )


def main() -> None:
    """Print the table, and write it to a file if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    beside = "resident" if arguments.device == "cpu" else "reserved"
    print(
        f"| network | patch | batch | precision | step predicted, GiB | allocated | {beside} | predicted / allocated "
        "| window predicted, GiB | allocated | predicted / allocated |"
    )
    print(f"|{'---|' * 11}")
    rows = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for case in cpu_cases() if arguments.device == "cpu" else gpu_cases(total_gib() - SPARE_GIB):
            rows.append(processes.submit(measure, case).result())
            print(f"| {' | '.join(rows[-1].cells)} |", flush=True)
    if arguments.json:
        machine = {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
        if arguments.device == "cuda":
            machine |= {"gpu": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version()}
        content = {"machine": machine, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def cpu_cases() -> Iterator[Case]:
    """The eight topologies, in float32 with SGD and in bfloat16 with AdamW."""
    settings: tuple[tuple[Precision, Optimizer], ...] = (("fp32", "sgd"), ("bf16", "adamw"))
    for precision, optimizer in settings:
        for architecture, size, batch in CPU_CASES:
            topology, patch = plan_topology((1.0,) * len(size), size, architecture=architecture)
            yield Case(
                topology=topology,
                patch_size=patch,
                batch_size=batch,
                precision=precision,
                optimizer=optimizer,
                device="cpu",
            )


def gpu_cases(most_gib: float) -> Iterator[Case]:
    """For each amount of memory that the GPU has, the largest patch and then the largest batch that should fit."""
    for (ndim, architecture), amounts in GPU_GIB.items():
        for number, gib in enumerate(amounts):
            if gib <= most_gib:
                yield _filling(ndim, architecture, gib, "bf16" if number % 2 == 0 else "fp16")


def _filling(ndim: int, architecture: Architecture, gib: float, precision: Precision) -> Case:
    """The plan whose step should take up to ``gib``."""

    def case(edges: list[int], batch_size: int) -> Case:
        topology, patch = plan_topology((1.0,) * ndim, edges, architecture=architecture)
        return Case(
            topology=topology,
            patch_size=patch,
            batch_size=batch_size,
            precision=precision,
            optimizer="sgd",
            device="cuda",
        )

    edges, batch_size = [FIRST_EDGE[ndim]] * ndim, 2
    while min(edges) < LAST_EDGE[ndim]:
        longer = edges.copy()
        longer[edges.index(min(edges))] += EDGE_STEP[ndim]
        if predicted(case(longer, batch_size))[0] > gib:
            break
        edges = longer
    while predicted(case(edges, batch_size + 1))[0] <= gib:
        batch_size += 1
    return case(edges, batch_size)


def predicted(case: Case) -> tuple[float, float]:
    """What the model says of a step and of a batch of windows, in GiB."""
    where = (case.topology, case.patch_size, case.batch_size)
    step = step_memory(
        *where,
        channels=CHANNELS,
        labels=LABELS,
        precision=case.precision,
        optimizer=case.optimizer,
        device=case.device,
    )
    window = window_memory(*where, channels=CHANNELS, labels=LABELS, precision=case.precision, device=case.device)
    return step.peak / GIB, window / GIB


def measure(case: Case) -> Row:
    """Predict and measure one case; to be called in a fresh process."""
    peaks = peaks_cuda if case.device == "cuda" else peaks_cpu
    step_gib, window_gib = predicted(case)
    ndim = case.topology.ndim
    small, patch = plan_topology((1.0,) * ndim, (8,) * ndim, architecture=case.topology.architecture)
    peaks(lambda: train(replace(case, topology=small, patch_size=patch)))  # loads all that torch loads late
    step_allocated_gib, beside_gib = peaks(lambda: train(case))
    window_allocated_gib, _ = peaks(lambda: predict(case))
    return Row(
        network=f"{case.topology.ndim}D {case.topology.architecture}",
        patch=" x ".join(map(str, case.patch_size)),
        batch=case.batch_size,
        precision=case.precision,
        step_predicted_gib=step_gib,
        step_allocated_gib=step_allocated_gib,
        beside_gib=beside_gib,
        window_predicted_gib=window_gib,
        window_allocated_gib=window_allocated_gib,
    )


def train(case: Case) -> None:
    """Build a network and train it for two steps."""
    device = torch.device(case.device)
    network = network_of(case.topology, channels=CHANNELS, labels=LABELS).to(device)
    config = TrainConfig(optimizer=case.optimizer, precision=case.precision)
    learner = Learner(network, config, batch_dice=True, device=device)
    labels = torch.randint(0, LABELS, (case.batch_size, *case.patch_size), device=device)
    batch = Batch(images=images(case), labels=labels)
    for _ in range(2):
        learner.step(batch, 1e-3)


def predict(case: Case) -> None:
    """Build a network and predict a batch of windows and its mirror image."""
    network = network_of(case.topology, channels=CHANNELS, labels=LABELS).to(case.device).eval()
    dtype = AUTOCAST[case.precision]
    with torch.inference_mode(), torch.autocast(case.device, dtype=dtype, enabled=dtype is not None):
        mirrored_mean(network, images(case), axes=(0,), at_once=case.batch_size)


def images(case: Case) -> torch.Tensor:
    """A batch of noise."""
    return torch.randn(case.batch_size, CHANNELS, *case.patch_size, device=case.device)


def peaks_cpu(work: Callable[[], object]) -> tuple[float, float]:
    """GiB of tensors by torch's profiler (the running sum of what it saw allocated and freed), and resident growth."""
    resident_gib = _process_gib("VmRSS")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
        largest_gib = _process_gib("VmHWM")
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    memory = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    alive = peak = 0
    for event in memory:
        alive += event["args"]["Bytes"]
        peak = max(peak, alive)
    return peak / GIB, largest_gib - resident_gib


def _process_gib(key: str) -> float:
    """A line of Linux's account of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024 / GIB


def peaks_cuda(work: Callable[[], object]) -> tuple[float, float]:
    """GiB that the caching allocator gave out, and GiB that it took from the GPU."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / GIB, torch.cuda.max_memory_reserved() / GIB


def total_gib() -> float:
    """Memory of the GPU."""
    return math.floor(torch.cuda.get_device_properties(0).total_memory / GIB)


if __name__ == "__main__":
    main()

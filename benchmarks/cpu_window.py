"""What a window costs when it is predicted on this CPU: in batches or side by side, with shortcuts or as torch does it.

    python benchmarks/cpu_window.py

Each network is asked for a window with its eight (2D: four) mirror images. The ways take turns in one process, once
with freed memory kept and once in a process without; medians and ranges of the rounds are printed as a table in
Markdown. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from nnlite.data.memory import keep_freed_memory
from nnlite.inference.sliding_window import mirrored_mean
from nnlite.networks.blocks import Shortcut
from nnlite.networks.unet import UNet
from nnlite.planning.topology import plan_topology
from nnlite.preprocessing.side_by_side import side_by_side

ROUNDS = 7
LABELS = 14
NETWORKS = {
    "3d 40 x 56 x 40, 16 features": ((40, 56, 40), 16),
    "3d 40 x 96 x 96, 8 features": ((40, 96, 96), 8),
    "2d 224 x 192, 16 features": ((224, 192), 16),
}
WAYS = (
    "torch's kernels, batches of two",
    "torch's kernels, one by one",
    "shortcuts, one by one",
    "shortcuts, two threads",
)


def main() -> None:
    """Print the table: a process for each way with memory."""
    if len(sys.argv) == 2:
        print(json.dumps(measured(kept=sys.argv[1] == "kept")))
        return
    print("| network | precision | freed memory | " + " | ".join(f"{way}, s" for way in WAYS) + " |")
    print("|---" * (3 + len(WAYS)) + "|")
    for memory in ("given back", "kept"):
        told = subprocess.run([sys.executable, __file__, memory], capture_output=True, text=True, check=True)
        for row in json.loads(told.stdout):
            print("| " + " | ".join([*row[:2], memory, *row[2:]]) + " |", flush=True)


def measured(*, kept: bool) -> list[list[str]]:
    """A row for each network and precision."""
    if kept:
        keep_freed_memory()
    rows = []
    for name, (patch, features) in NETWORKS.items():
        topology, patch = plan_topology((1.0,) * len(patch), patch, base_features=features, max_features=256)
        torch.manual_seed(0)
        network = UNet(topology, channels=1, labels=LABELS).eval()
        for precision in ("fp32", "bf16"):
            ways = [partial(_predict, network, torch.randn(1, 1, *patch), precision, way) for way in WAYS]
            rows.append([name, precision, *map(_shown, _in_turn(ways))])
    return rows


@torch.inference_mode()
def _predict(network: nn.Module, window: torch.Tensor, precision: str, way: str) -> object:
    for layer in network.modules():
        if isinstance(layer, Shortcut):
            layer.shortcut = way.startswith("shortcuts")

    @torch.inference_mode()
    def ask(windows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return network(windows)

    axes = range(window.ndim - 2)
    at_once = 2 if way.endswith("batches of two") else 1
    with side_by_side(2 if way.endswith("two threads") else 1) as ordered_map:
        return mirrored_mean(ask, window, axes, at_once=at_once, ordered_map=ordered_map)


def _in_turn(ways: Sequence[Callable[[], object]]) -> list[list[float]]:
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(ROUNDS + 1):
        for measured_s, work in zip(seconds, ways, strict=True):
            started = time.perf_counter()
            work()
            if turn > 0:  # the first round warms up
                measured_s.append(time.perf_counter() - started)
    return seconds


def _shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


if __name__ == "__main__":
    main()

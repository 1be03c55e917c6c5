"""What a training step and a prediction cost on this CPU, in float32 and bfloat16, with channels first and last.

    python benchmarks/cpu_step.py

The networks are the hippocampus 3D and the membrane 2D network of `plan --device cpu`, with their patches and batches.
Variants take turns, so that a machine that slows down slows all of them; median and range of the rounds are printed as
a table in Markdown. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import product

import torch

from nnlite.networks.unet import UNet
from nnlite.planning.topology import plan_topology
from nnlite.training.assemble import Batch
from nnlite.training.config import TrainConfig
from nnlite.training.learner import Learner

ROUNDS = 7
LABELS = 3
CASES = {
    "3d 40 x 56 x 40, batch 2": ((1.0, 1.0, 1.0), (40, 56, 40), 2),
    "2d 224 x 192, batch 4": ((1.0, 1.0), (224, 192), 4),
}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def main() -> None:
    """Print the table."""
    print("| network | layout | precision | training step, s | prediction of one window, s |")
    print("|---|---|---|---|---|")
    for name, (spacing, patch, batch) in CASES.items():
        variants = {
            (layout, precision): _variant(spacing, patch, batch, layout, precision)
            for layout, precision in product(("first", "last"), ("fp32", "bf16"))
        }
        seconds: dict[tuple[str, str], tuple[list[float], list[float]]] = {key: ([], []) for key in variants}
        for turn in range(ROUNDS + 1):
            for key, (step, predict) in variants.items():
                for measured, work in zip(seconds[key], (step, predict), strict=True):
                    started = time.perf_counter()
                    work()
                    if turn > 0:  # the first round warms up
                        measured.append(time.perf_counter() - started)
        for (layout, precision), (steps, predictions) in seconds.items():
            print(f"| {name} | channels {layout} | {precision} | {_shown(steps)} | {_shown(predictions)} |")


def _variant(
    spacing: tuple[float, ...], patch: tuple[int, ...], batch: int, layout: str, precision: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A training step and a prediction of one window, ready to be called."""
    topology, padded = plan_topology(spacing, patch, base_features=16, max_features=256)
    torch.manual_seed(0)
    network = UNet(topology, channels=1, labels=LABELS)
    if layout == "last":
        network.to(memory_format=LAST[len(patch)])  # type: ignore[call-overload]
    config = TrainConfig(optimizer="adamw", precision="bf16" if precision == "bf16" else "fp32")
    learner = Learner(network, config, batch_dice=False, device=torch.device("cpu"))
    images = torch.randn(batch, 1, *padded)
    labels = torch.randint(0, LABELS, (batch, *padded))

    def step() -> object:
        network.train()
        return learner.step(Batch(images=images, labels=labels), 1e-3)

    @torch.inference_mode()
    def predict() -> object:
        network.eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return network(images[:1])

    return step, predict


def _shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


if __name__ == "__main__":
    main()

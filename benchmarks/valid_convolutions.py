"""Shows which weights and optimisers the U-Net of 2015, which normalises nothing, learns from.

    python benchmarks/valid_convolutions.py [--seeds 5] [--steps 200]

Two phantoms (a ball and its core, in noise) are learnt by heart: 36 x 36 pixels of 124 x 124, batches of both, 8 to 64
features, learning rates that fall polynomially. "paper" draws all weights with a deviation of sqrt(2 / N), "nnlite"
those of layers without a ReLU behind them with sqrt(1 / N). docs/decisions/valid-convolutions.md shows the result.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Literal

import numpy as np
import torch
from torch import nn

from nnlite.networks.unet_2015 import UNet2015, centre
from nnlite.planning.topology import Topology, plan_topology
from nnlite.training.assemble import Batch
from nnlite.training.config import TrainConfig
from nnlite.training.learner import Learner, overlap_counts, pseudo_dice

FEATURES, PATCH = 8, (36, 36)
NOISE = 0.3  # of a structure's contrast
RATES: tuple[tuple[Literal["adamw", "sgd"], float, float], ...] = (  # optimiser, learning rate, weight decay
    ("adamw", 3e-3, 1e-2),
    ("sgd", 1e-2, 3e-5),
)


def main() -> None:
    """Print a row per optimiser and way to draw weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    topology, patch = plan_topology((1.0, 1.0), PATCH, architecture="unet-2015", base_features=FEATURES)
    batch = phantoms(topology, patch)
    print(
        "| optimiser | rate | weights | loss of the first step, by seed | Dice of ball and core | CPU s per training |"
    )
    print(f"|{'---|' * 6}")
    for optimizer, rate, decay in RATES:
        for weights in ("paper", "nnlite"):
            config = TrainConfig(optimizer=optimizer, learning_rate=rate, weight_decay=decay)
            started = time.process_time()
            rows = [train(topology, batch, config, weights, arguments.steps, seed) for seed in range(arguments.seeds)]
            seconds = (time.process_time() - started) / arguments.seeds
            losses = ", ".join(f"{loss:.1f}" for loss, _ in rows)
            dice = ", ".join(" / ".join(f"{score:.2f}" for score in scores) for _, scores in rows)
            print(f"| {optimizer} | {rate:g} | {weights} | {losses} | {dice} | {seconds:.0f} |", flush=True)


def phantoms(topology: Topology, patch: tuple[int, ...]) -> Batch:
    """Two images of what the network sees, and the labels of what it answers for."""
    size = topology.seen_size(patch)
    images, labels = [], []
    for number in range(2):
        rng = np.random.default_rng(number)
        middle = [more + length * (0.45 + 0.1 * number) for more, length in zip(topology.margin, patch, strict=True)]
        distance = np.linalg.norm(np.moveaxis(np.indices(size), 0, -1) - np.array(middle), axis=-1)
        label = (distance < 0.3 * patch[-1]).astype(np.int64) + (distance < 0.15 * patch[-1])
        image = label + rng.normal(0, NOISE, size)
        images.append((image - image.mean()) / image.std())
        labels.append(label)
    seen = torch.from_numpy(np.stack(images)).float()[:, None]
    return Batch(images=seen, labels=centre(torch.from_numpy(np.stack(labels)), patch).contiguous())


def train(
    topology: Topology, batch: Batch, config: TrainConfig, weights: str, steps: int, seed: int
) -> tuple[float, list[float]]:
    """The loss of the first step, and the Dice of each structure after the last."""
    torch.manual_seed(seed)
    network = UNet2015(topology, channels=1, labels=3)
    if weights == "paper":
        for module in (*network.upsample, network.head):
            nn.init.normal_(module.get_parameter("weight"), std=math.sqrt(2 / module.in_channels))
    learner = Learner(network.train(), config, batch_dice=True, device=torch.device("cpu"))
    losses = [float(learner.step(batch, config.learning_rate * (1 - step / steps) ** 0.9)) for step in range(steps)]
    with torch.no_grad():
        scores = pseudo_dice(overlap_counts(network.eval()(batch.images), batch.labels))
    return losses[0], [score or 0.0 for score in scores]


if __name__ == "__main__":
    main()

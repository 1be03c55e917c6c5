"""Whether a network, a loss or an input learns two small phantoms by heart: the overfit test of every such choice.

A training that cannot is broken, however well its parts pass tests of their own. The phantoms are as large as a patch,
and are shown as they are, without poses and augmentation, through the batches and the learner of real trainings.

    plan = tiny.plan("2d")  # or with another topology, labels, ..
    dice = overfit(tmp_path, plan, OVERFIT)
    assert min(dice) > 0.98
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nnlite.networks.build import build_network
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.mirrored_borders import extend_by_mirroring
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.training.answer import Answer
from nnlite.training.batches import BatchSource
from nnlite.training.config import TrainConfig
from nnlite.training.learner import Learner, overlap_counts, pseudo_dice

CPU = torch.device("cpu")
OVERFIT = TrainConfig(epochs=4, iterations=40, optimizer="adamw", learning_rate=1e-2, weight_decay=0.0)
"""About three seconds on one core for the networks of ``tiny.plan``."""


def overfit(folder: Path, plan: Plan, config: TrainConfig = OVERFIT) -> tuple[float, float]:
    """Train the first configuration of a plan on two phantoms, which are stored in ``folder``.

    Returns the mean Dice over the structures of the plan's labels (background, ball, core) for each phantom.
    """
    configuration = next(iter(plan.configurations.values()))
    configuration = replace(configuration, batch_size=2, batch_dice=True)
    cases = two_phantoms(folder, configuration)
    torch.manual_seed(config.seed)
    answer = Answer.to(plan.labels, CPU)
    learner = Learner(build_network(plan, configuration), config, batch_dice=True, device=CPU, answer=answer)
    maps = learner.loss.needs
    batches = BatchSource(plan, configuration, cases, cases, seed=config.seed, device=CPU, threads=1, maps=maps)
    learner.network.train()
    for epoch in range(config.epochs):
        learner.share_done = epoch / config.epochs
        rate = config.learning_rate * (1 - epoch / config.epochs)
        with closing(batches.validation_batches(epoch, config.iterations)) as source:
            for batch in source:
                learner.step(batch, rate)
    learner.network.eval()
    margin = configuration.topology.margin
    first, second = (_dice(learner, case, margin) for case in cases.values())
    return first, second


def two_phantoms(folder: Path, configuration: Configuration) -> dict[str, StoredCase]:
    """Two noisy images of the size of a patch, each with a ball (1) that has a brighter core (2), stored in a folder.

    Beside it lies a small ball, a pixel from the other at the nearest, as cells lie.
    """
    patch = configuration.patch_size
    shape = (*(1,) * (3 - len(patch)), *patch)
    store = CaseStore(folder)
    for number in range(2):
        rng = np.random.default_rng(number)
        place = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) * (0.45 + 0.1 * number)
        distance = np.linalg.norm(place, axis=-1)
        beside = np.linalg.norm(place - np.sign(0.5 - number) * 0.28 * np.array(shape), axis=-1)
        radius = 0.3 * patch[-1]
        label = ((distance < radius) | (beside < 0.35 * radius)).astype(np.uint8) + (distance < 0.5 * radius)
        image = label + rng.normal(0, 0.2, shape)
        store.write(
            PreprocessedCase(
                case_id=f"phantom_{number}",
                image=image[None].astype(np.float32),
                label=label.astype(np.uint8),
                previous=None,
                restoration=_untouched(f"phantom_{number}", shape),
            )
        )
    return {case_id: store.open(case_id) for case_id in store.ids()}


def _untouched(case_id: str, shape: tuple[int, ...]) -> Restoration:
    size = (shape[0], shape[1], shape[2])
    spacing_mm = (1.0, 1.0, 1.0)
    return Restoration(
        case_id=case_id,
        shape=size,
        box=((0, size[0]), (0, size[1]), (0, size[2])),
        transpose=(0, 1, 2),
        cropped_shape=size,
        spacing_mm=spacing_mm,
        resampled_shape=size,
        resampled_spacing_mm=spacing_mm,
    )


@torch.no_grad()
def _dice(learner: Learner, case: StoredCase, margin: tuple[int, ...]) -> float:
    """Mean Dice over the structures of a phantom, of which the network sees a ``margin`` more on either side."""
    arrays = case.mapped()
    assert arrays.label is not None
    ndim = len(margin)
    size = arrays.image.shape[-ndim:]
    beyond = (*(0,) * (3 - ndim), *margin)
    image = extend_by_mirroring(torch.from_numpy(np.array(arrays.image)), beyond, beyond)
    image = image.view(1, -1, *image.shape[-ndim:])
    label = torch.from_numpy(np.array(arrays.label, dtype=np.int64)).view(1, *size)
    scores = pseudo_dice(overlap_counts(learner.network(image), label, learner.answer))
    known = [score for score in scores if score is not None]
    return sum(known) / len(known)

"""From files of weights to a model that predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from nnlite.errors import CheckpointError, UsageError
from nnlite.inference.arithmetic import Arithmetic
from nnlite.inference.predict import Model
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.interop import nnunet_arithmetic
from nnlite.networks.build import build_network
from nnlite.training.checkpoint import Checkpoint, ModelCard, load_model, load_weights
from nnlite.training.config import AUTOCAST, best_precision


def load(
    paths: Sequence[Path],
    *,
    device: torch.device,
    mirroring: bool = True,
    step: float = WINDOW_STEP,
    exact: bool = False,
    previous: Model | None = None,
) -> Model:
    """One model out of the checkpoints of several folds of one configuration; their logits are averaged.

    A model that nnU-Net has trained predicts as it does there, with ``exact`` to the bit; ``exact`` is for such alone.
    """
    return model_of(
        [load_model(path) for path in paths],
        [str(path) for path in paths],
        device=device,
        mirroring=mirroring,
        step=step,
        exact=exact,
        previous=previous,
    )


def model_of(
    checkpoints: Sequence[Checkpoint],
    sources: Sequence[str],
    *,
    device: torch.device,
    mirroring: bool = True,
    step: float = WINDOW_STEP,
    exact: bool = False,
    previous: Model | None = None,
) -> Model:
    """The same of checkpoints that were read already; ``sources`` is how messages call them."""
    first = checkpoints[0].card
    for source, checkpoint in zip(sources, checkpoints, strict=True):
        card = checkpoint.card
        if (card.plan.decisions(), card.configuration) != (first.plan.decisions(), first.configuration):
            raise CheckpointError(
                f"{source} ({card.configuration}) follows another plan than {sources[0]} ({first.configuration}), so "
                "they cannot be averaged; name folds of one plan with --folds, or delete the folders of the older ones "
                "and train them again"
            )
    configuration = first.plan.configuration(first.configuration)
    return Model(
        plan=first.plan,
        configuration=configuration,
        networks=tuple(_network(checkpoint, source) for checkpoint, source in zip(checkpoints, sources, strict=True)),
        device=device,
        mirror_axes=first.mirror_axes if mirroring else (),
        step=step,
        arithmetic=_arithmetic(first, device, exact=exact),
        previous=previous,
    )


def _arithmetic(card: ModelCard, device: torch.device, *, exact: bool) -> Arithmetic:
    if card.trained_by == "nnU-Net":
        return nnunet_arithmetic.arithmetic(device, exact=exact)
    if exact:
        raise UsageError(
            f"--exact repeats nnU-Net's arithmetic, and {card.configuration} {card.fold} was trained by nnlite, or "
            "imported by a version that did not note its origin; leave --exact out, or run nnlite import-nnunet again"
        )
    return Arithmetic(autocast_dtype=AUTOCAST[best_precision(device)])


def _network(checkpoint: Checkpoint, source: str) -> torch.nn.Module:
    plan = checkpoint.card.plan
    network = build_network(plan, plan.configuration(checkpoint.card.configuration))
    load_weights(network, checkpoint, source=source)
    return network

"""From files of weights to a model that predicts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from nnlite.errors import CheckpointError, UsageError
from nnlite.inference.arithmetic import Arithmetic
from nnlite.inference.predict import Model
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.interop import nnunet_arithmetic
from nnlite.networks.build import build_network
from nnlite.planning.decisions import decisions
from nnlite.training.checkpoint import Checkpoint, ModelCard, load_model, load_weights
from nnlite.training.config import AUTOCAST, best_precision

logger = logging.getLogger(__name__)


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
        ((load_model(path), str(path)) for path in paths),
        device=device,
        mirroring=mirroring,
        step=step,
        exact=exact,
        previous=previous,
    )


def model_of(
    checkpoints: Iterable[tuple[Checkpoint, str]],
    *,
    device: torch.device,
    mirroring: bool = True,
    step: float = WINDOW_STEP,
    exact: bool = False,
    previous: Model | None = None,
) -> Model:
    """The same of checkpoints wherever they come from, each with what messages call it.

    They are taken one by one, so that the weights of one at a time are in memory twice.
    """
    cards: list[tuple[ModelCard, str]] = []
    networks: list[torch.nn.Module] = []
    for checkpoint, source in checkpoints:
        cards.append((checkpoint.card, source))
        _require_same_plan(cards[0], cards[-1])
        networks.append(_network(checkpoint, source))
        del checkpoint  # before the next one is read
    first = cards[0][0]
    return Model(
        plan=first.plan,
        configuration=first.plan.configuration(first.configuration),
        networks=tuple(networks),
        device=device,
        mirror_axes=_shared_mirrors([card for card, _ in cards]) if mirroring else (),
        step=step,
        arithmetic=_arithmetic(first, device, exact=exact),
        previous=previous,
    )


def _require_same_plan(first: tuple[ModelCard, str], other: tuple[ModelCard, str]) -> None:
    """Raise ``CheckpointError`` unless both networks follow one plan, and so can be averaged."""
    (card, source), (another, place) = first, other
    if decisions(card.plan, card.configuration) != decisions(another.plan, another.configuration):
        raise CheckpointError(
            f"{place} ({another.configuration}) follows another plan than {source} ({card.configuration}), so they "
            "cannot be averaged; name folds of one plan with --folds, or delete the folders of the older ones and "
            "train them again"
        )


def _shared_mirrors(cards: Sequence[ModelCard]) -> tuple[int, ...]:
    """Axes along which all folds were mirrored in training; where these differ, a warning names them.

    All folds are shown the same windows, and none is shown a mirrored one that it was not trained for.
    """
    first = cards[0]
    shared = tuple(axis for axis in first.mirror_axes if all(axis in card.mirror_axes for card in cards))
    if any(set(card.mirror_axes) != set(shared) for card in cards):
        logger.warning(
            "folds of %s were not mirrored alike in training (%s): predicted with mirrors along %s; to use all "
            "mirrors, name folds of one kind with --folds, or train all with one --augmentation",
            first.configuration,
            ", ".join(f"{card.fold} along {_in_words(card, card.mirror_axes)}" for card in cards),
            _in_words(first, shared),
        )
    return shared


def _in_words(card: ModelCard, axes: Sequence[int]) -> str:
    """Axes of the patch by the names that they have in the image."""
    of_patch = card.plan.transpose[3 - card.plan.configuration(card.configuration).topology.ndim :]
    return " ".join("zyx"[of_patch[axis]] for axis in sorted(axes)) or "no axis"


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

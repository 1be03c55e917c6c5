"""Trained networks on disk: safe to load, and enough to predict.

A model (``.safetensors``) holds the weights and, in its header, everything that prediction needs to know, so that the
file alone is enough. Loading it runs no code from the file. What a training needs to go on is in ``state_file.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nnlite.data.records import from_json, record, to_json, written_whole
from nnlite.errors import CheckpointError
from nnlite.planning.planner import Plan

HEADER_KEY = "nnlite"


@record
class ModelCard:
    """What a model's file says of it: the plan it follows, and which training it comes from.

    ``trained_by`` names the program: networks of another want images and windows as they had them there.
    """

    plan: Plan
    configuration: str
    fold: str
    epoch: int
    mirror_axes: tuple[int, ...]  # spatial axes of the patch that were flipped in training
    trained_by: Literal["nnlite", "nnU-Net"] = "nnlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained network: its card, and its weights by parameter name."""

    card: ModelCard
    weights: dict[str, Tensor]


def save_model(path: Path, checkpoint: Checkpoint) -> None:
    """Write a model so that the file appears whole."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    content = save(weights, metadata={HEADER_KEY: to_json(checkpoint.card)})
    with written_whole(path) as beside:
        beside.write_bytes(content)  # not save_file: its error hides that the disk is full


def load_model(path: Path) -> Checkpoint:
    """Read a model; a file that is missing, cut off or not nnlite's raises ``CheckpointError``."""
    if not path.is_file():
        raise CheckpointError(f"no model at {path}; train one first, or name another folder")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a model ({error}); it may have been cut off: copy it again"
        ) from error
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{path} was not written by nnlite")
    card = from_json(metadata[HEADER_KEY], ModelCard, source=f"the header of {path}", error=CheckpointError)
    return Checkpoint(card=card, weights=weights)


def load_weights(network: torch.nn.Module, checkpoint: Checkpoint, *, source: Path) -> None:
    """Put the weights of a checkpoint into the network that its plan describes."""
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise CheckpointError(f"{source} does not fit the network its plan describes: {error}") from error

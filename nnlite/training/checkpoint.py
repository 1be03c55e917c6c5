"""Trained networks on disk: safe to load, and enough to predict.

A model (``.safetensors``) holds the weights and, in its header, everything that prediction needs to know, so that the
file alone is enough. Loading it runs no code from the file, and takes no memory before the checksum and the shapes of
all weights, which the plan in the header demands, have been compared. What a training needs to go on is in
``state_file.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor

from nnlite.data.mapped_file import mapped
from nnlite.data.records import from_json, record, to_json, written_whole
from nnlite.errors import CheckpointError
from nnlite.networks.build import weight_shapes
from nnlite.planning.planner import Plan
from nnlite.training.weights_file import StoredTensor, read_header, read_tensor

HEADER_KEY = "nnlite"
NO_DIGEST = "0" * 2 * hashlib.sha256().digest_size  # what is in the place of the checksum when it is taken
LISTED_WEIGHTS = 3  # of many, in a message


@record
class ModelCard:
    """What a model's file says of it: the plan it follows, and which training it comes from.

    ``trained_by`` names the program: networks of another want images and windows as they had them there. ``sha256`` is
    the checksum of the file, taken with zeros in its place; None in files of an earlier nnlite, and in memory.
    """

    sha256: str | None = None
    plan: Plan
    configuration: str
    fold: str
    epoch: int
    mirror_axes: tuple[int, ...]  # spatial axes of the patch that were flipped in training
    trained_by: Literal["nnlite", "nnU-Net"] = "nnlite"

    def __post_init__(self) -> None:
        if self.configuration not in self.plan.configurations:
            raise ValueError(f"the plan has no configuration {self.configuration}")
        axes = range(self.plan.configurations[self.configuration].topology.ndim)
        if not set(self.mirror_axes) <= set(axes):
            raise ValueError(f"mirror_axes {self.mirror_axes} of a network with {len(axes)} axes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained network: its card, and its weights by parameter name."""

    card: ModelCard
    weights: dict[str, Tensor]


def save_model(path: Path, checkpoint: Checkpoint) -> None:
    """Write a model so that the file appears whole."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    content = save(weights, metadata={HEADER_KEY: to_json(replace(checkpoint.card, sha256=NO_DIGEST))})
    place = content.index(NO_DIGEST.encode())
    after = memoryview(content)[place + len(NO_DIGEST) :]
    with written_whole(path) as beside, beside.open("wb") as file:  # not save_file: its error hides a full disk
        file.write(content[:place])
        file.write(hashlib.sha256(content).hexdigest().encode())
        file.write(after)


def load_model(path: Path) -> Checkpoint:
    """Read a model; a file that is missing, damaged or not nnlite's raises ``CheckpointError``."""
    if not path.is_file():
        raise CheckpointError(f"no model at {path}; train one first, or name another folder")
    return parse_model(mapped(path, error=CheckpointError), str(path))


def parse_model(content: memoryview, source: str) -> Checkpoint:
    """The model that these bytes of a file hold; ``CheckpointError``, naming ``source``, if they hold none."""
    header = read_header(content, source)
    if set(header.metadata) != {HEADER_KEY}:
        raise CheckpointError(f"{source} was not written by nnlite")
    card = from_json(header.metadata[HEADER_KEY], ModelCard, source=f"the header of {source}", error=CheckpointError)
    _require_checksum(content, header.length, card.sha256, source)
    _require_fitting(header.tensors, card, source)
    weights = {name: read_tensor(content, stored) for name, stored in header.tensors.items()}
    return Checkpoint(card=replace(card, sha256=None), weights=weights)


def _require_checksum(content: memoryview, length: int, digest: str | None, source: str) -> None:
    """Raise ``CheckpointError`` where a file has another checksum than it says."""
    if digest is None:
        return
    place = bytes(content[:length]).find(digest.encode())
    found = hashlib.sha256(content[:place])
    found.update(NO_DIGEST.encode())
    found.update(content[place + len(NO_DIGEST) :])
    if found.hexdigest() != digest:
        raise CheckpointError(f"{source} is damaged: its content does not fit its checksum; copy it again")


def _require_fitting(found: Mapping[str, StoredTensor], card: ModelCard, source: str) -> None:
    """Raise ``CheckpointError`` unless these are the weights of the network that the plan describes."""
    needed = weight_shapes(card.plan, card.plan.configuration(card.configuration))
    shapes = {name: stored.shape for name, stored in found.items()}
    if faults := [name for name in {**needed, **shapes} if needed.get(name) != shapes.get(name)]:
        told = [f"{name} {shapes.get(name, 'missing')} instead of {needed.get(name, 'none')}" for name in faults]
        more = f" and {len(told) - LISTED_WEIGHTS} more" if len(told) > LISTED_WEIGHTS else ""
        raise CheckpointError(
            f"{source} does not fit the network its plan describes: {', '.join(told[:LISTED_WEIGHTS])}{more}"
        )


def load_weights(network: torch.nn.Module, checkpoint: Checkpoint, *, source: str) -> None:
    """Put the weights of a checkpoint into the network that its plan describes."""
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise CheckpointError(f"{source} does not fit the network its plan describes: {error}") from error

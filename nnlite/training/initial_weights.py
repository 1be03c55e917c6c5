"""Weights that a training begins with instead of freshly drawn ones: those of another network, where they fit.

A weight is taken if name and shape agree, whether or not one of the networks knows an atlas. What differs, as the first
layer does for images of other channels and the heads for other labels, is drawn as always, and named.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

from torch import Tensor

from nnlite.data.digest import DIGEST_LETTERS
from nnlite.data.records import record
from nnlite.training.checkpoint import Checkpoint

ENCODER = ("stem", "encoder", "separate")  # what the networks call the parts of it
BEHIND_ATLAS = "network."  # what stands before their names where the network knows an atlas
ATLAS = "atlas"  # no weight that is learned: it is counted anew for every training


@record
class InitialWeights:
    """Which weights a training began with, and where they come from.

    ``model`` is what was named to begin with, ``source`` the file of it with the network of ``dataset``,
    ``configuration`` and ``fold``; ``digest`` changes with the weights that were taken. ``tensors`` of ``all_tensors``
    in the new network were, ``parameters`` of ``all_parameters``; ``fresh`` names the others. ``remark`` says what its
    user should know.
    """

    source: str
    dataset: str
    configuration: str
    fold: str
    digest: str
    tensors: int
    all_tensors: int
    parameters: int
    all_parameters: int
    fresh: tuple[str, ...]
    remark: str = ""
    model: str = ""

    def in_words(self) -> str:
        """What was taken, for people."""
        return (
            f"weights of {self.dataset} {self.configuration} {self.fold}: {self.tensors} of {self.all_tensors} "
            f"tensors, {self.parameters:,} of {self.all_parameters:,} parameters"
        )


def learned(needed: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a network learns of all that it needs."""
    return {name: shape for name, shape in needed.items() if name != ATLAS}


def matching(weights: Mapping[str, Tensor], needed: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Those of ``weights`` that a network ``needed`` has by the same name and shape, by the network's names.

    >>> import torch
    >>> sorted(matching({"a": torch.zeros(2), "b": torch.zeros(3)}, {"a": (2,), "b": (4,), "c": (5,)}))
    ['a']
    >>> sorted(matching({"atlas": torch.zeros(1), "network.a": torch.zeros(2)}, {"atlas": (1,), "a": (2,)}))
    ['a']
    """
    there = {name.removeprefix(BEHIND_ATLAS): tensor for name, tensor in weights.items()}
    pairs = ((name, shape, there.get(name.removeprefix(BEHIND_ATLAS))) for name, shape in learned(needed).items())
    return {name: tensor for name, shape, tensor in pairs if tensor is not None and shape == tuple(tensor.shape)}


def encoder_weights(names: Iterable[str]) -> list[str]:
    """Those of a network's weights that belong to its encoder.

    >>> encoder_weights(["stem.weight", "network.encoder.0.weight", "decoder.0.weight", "heads.0.bias"])
    ['stem.weight', 'network.encoder.0.weight']
    """
    return [name for name in names if name.removeprefix(BEHIND_ATLAS).partition(".")[0] in ENCODER]


def describe(checkpoint: Checkpoint, source: str, needed: Mapping[str, tuple[int, ...]]) -> InitialWeights:
    """What of a checkpoint's network fits one that needs these names and shapes."""
    needed = learned(needed)
    taken = matching(checkpoint.weights, needed)
    content = hashlib.sha256()
    for name in sorted(taken):
        content.update(name.encode())
        content.update(taken[name].contiguous().numpy().data)
    card = checkpoint.card
    return InitialWeights(
        source=source,
        dataset=card.plan.dataset,
        configuration=card.configuration,
        fold=card.fold,
        digest=content.hexdigest()[:DIGEST_LETTERS],
        tensors=len(taken),
        all_tensors=len(needed),
        parameters=sum(tensor.numel() for tensor in taken.values()),
        all_parameters=sum(math.prod(shape) for shape in needed.values()),
        fresh=tuple(name for name in needed if name not in taken),
    )

"""How far a prediction can be trusted, measured while it is made: what the probabilities and the members tell.

Works on parts as they come by, windows and slabs, and keeps a few sums per label: no volume is made or kept for it. The
Dice that a mask can be expected to have by its own probabilities is the soft Dice of the two; how much the answers to
an image and to its flips agree is a form of test-time augmentation (Wang et al., Neurocomputing 338, 34-45, 2019).
Neither is a Dice yet: both are calibrated on held-out cases in ``nnlite.evaluation.reliability``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nnlite.data.records import record

PART_ELEMENTS = 2**22  # 16 MiB of float32: probabilities that are looked at together


@record
class LabelFeatures:
    """What was measured of one label in one case; shares from 0 to 1, None where it does not exist.

    ``estimated_dice`` is 2 sum(p m) / (sum(p) + sum(m)) of the mask m and the label's probabilities p, before
    postprocessing. The others are the mean Dice of each member's mask with that of all of them together: of flips,
    folds and configurations. None where the label was not predicted, or where there is one member alone.
    """

    label: str
    estimated_dice: float | None
    flip_agreement: float | None
    fold_agreement: float | None
    configuration_agreement: float | None


class Agreement:
    """How much several answers agree with the one they give together, label by label.

    >>> agreement = Agreement(labels=2)
    >>> agreement.add([torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])], together=torch.tensor([0, 0, 1]))
    >>> agreement.dice()[1].item()  # of the Dice 2 / 3 and 1, the mean weighted by size: 2 x 2 / (3 + 2)
    0.8
    """

    def __init__(self, labels: int) -> None:
        self._shared = np.zeros(labels)  # voxels that an answer and all together give to a label, over all answers
        self._sizes = np.zeros(labels)  # voxels of both

    def add(self, answers: Sequence[Tensor], together: Tensor) -> None:
        """Count a part of the image: label indices of each answer, and of all of them together, of one shape."""
        stacked = torch.stack(list(answers))
        agreeing = (stacked == together).sum(dim=0, dtype=torch.int16)  # the default, int64, takes ten times as long
        self._shared += self._count(together, agreeing)
        self._sizes += self._count(stacked) + len(answers) * self._count(together)

    def include(self, other: Agreement) -> None:
        """Count what another one has counted."""
        self._shared += other._shared
        self._sizes += other._sizes

    def dice(self) -> np.ndarray:
        """Mean Dice (labels,), each answer weighing by its size; NaN where there is nothing to compare."""
        return np.divide(2 * self._shared, self._sizes, out=np.full(len(self._sizes), np.nan), where=self._sizes > 0)

    def _count(self, indices: Tensor, weights: Tensor | None = None) -> np.ndarray:
        weights = None if weights is None else weights.flatten().double()
        return torch.bincount(indices.flatten(), weights, minlength=len(self._sizes)).cpu().numpy()


class ReliabilityMeter:
    """Sums over the parts of one case, filled while it is predicted.

    ``flips``, ``folds`` and ``configurations`` compare what these say with what they say together. Windows overlap, so
    flips and folds, which are compared window by window, count the voxels between windows more than once.
    """

    def __init__(self, labels: int) -> None:
        self.flips, self.folds, self.configurations = (Agreement(labels) for _ in range(3))
        self._within = np.zeros(labels)  # a label's probability over the voxels that it wins
        self._everywhere = np.zeros(labels)
        self._voxels = np.zeros(labels)

    def passing(self, logits: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same slabs (labels, slices, y, x), each measured before it is handed on."""
        for slab in logits:
            slices = max(1, PART_ELEMENTS // (slab.shape[0] * slab.shape[2] * slab.shape[3]))
            for part in slab.split(slices, dim=1):
                self.add(part.float().softmax(dim=0))
            yield slab

    def add(self, probabilities: Tensor) -> None:
        """Measure a part of the image: probabilities (labels, z, y, x)."""
        highest, winners = probabilities.max(dim=0)
        count = len(self._voxels)
        self._voxels += torch.bincount(winners.flatten(), minlength=count).cpu().numpy()
        self._within += torch.bincount(winners.flatten(), highest.flatten().double(), minlength=count).cpu().numpy()
        # float32 within a plane, double over the planes: exact enough, and no copy of the whole in double
        self._everywhere += probabilities.sum(dim=(2, 3)).double().sum(dim=1).cpu().numpy()

    def features(self, names: Sequence[str]) -> tuple[LabelFeatures, ...]:
        """What was measured of each label but the first, the background; ``names`` are those of all labels."""
        predicted = self._voxels > 0
        estimated = 2 * self._within / np.maximum(self._everywhere + self._voxels, np.finfo(float).tiny)
        members = [part.dice() for part in (self.flips, self.folds, self.configurations)]

        def known(values: np.ndarray, index: int) -> float | None:
            return float(values[index]) if predicted[index] and np.isfinite(values[index]) else None

        return tuple(
            LabelFeatures(
                label=names[index],
                estimated_dice=known(estimated, index),
                flip_agreement=known(members[0], index),
                fold_agreement=known(members[1], index),
                configuration_agreement=known(members[2], index),
            )
            for index in range(1, len(names))
        )


def normalized_entropy(probabilities: np.ndarray) -> np.ndarray:
    """How undecided probabilities (labels, z, y, x) are: 0 where one label is certain, 1 where all are alike.

    Their entropy divided by the logarithm of the number of labels; float32 (z, y, x).

    >>> normalized_entropy(np.array([[[[1.0, 0.5]]], [[[0.0, 0.5]]]])).round(6).tolist()
    [[[0.0, 1.0]]]
    """
    entropy = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for one in probabilities:  # 0 log 0 is 0
        entropy -= one * np.log(np.where(one > 0, one, 1))
    return np.clip(entropy / np.log(len(probabilities)), 0, 1)

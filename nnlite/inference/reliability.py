"""How far a prediction can be trusted, measured while it is made: what the probabilities and the members tell.

Works on parts as they come by, windows and slabs, and keeps a few sums per label: no volume is made or kept for it. The
Dice that a mask can be expected to have by its own probabilities is the soft Dice of the two; how much the answers to
an image and to its flips agree is a form of test-time augmentation (Wang et al., Neurocomputing 338, 34-45, 2019).
Neither is a Dice yet: both are calibrated on held-out cases in ``nnlite.evaluation.reliability``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from nnlite.data.labels import Labels
from nnlite.data.records import record
from nnlite.preprocessing.decide import Decision

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
    """How much several answers agree with the one they give together, structure by structure; threads may share it.

    >>> agreement = Agreement(Labels(names=("background", "ball"), values=(0, 1)))
    >>> agreement.add([torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])], together=torch.tensor([0, 0, 1]))
    >>> agreement.dice().item()  # of the Dice 2 / 3 and 1, the mean weighted by size: 2 x 2 / (3 + 2)
    0.8
    """

    def __init__(self, labels: Labels) -> None:
        self._decision = Decision.by(labels)
        self._members = labels.members
        self._voxels = np.zeros((labels.count, labels.count), dtype=np.int64)  # by label of an answer and of all
        self._counting = Lock()

    def answer(self, logits: Tensor) -> Tensor:
        """Label indices (n, *window) int16 of logits (n, channels, *window), or of a sum of logits."""
        return self._decision.without_border(self._decision.from_logits(enumerate(logits.unbind(dim=1))))

    def add(self, answers: Sequence[Tensor], together: Tensor) -> None:
        """Count a part of the image: label indices of each answer, and of all of them together, of one shape."""
        count = len(self._voxels)
        for answer in answers:
            pairs = answer.to(torch.int32).mul_(count).add_(together)
            voxels = torch.bincount(pairs.flatten(), minlength=count**2).view(count, count).cpu().numpy()
            with self._counting:
                self._voxels += voxels

    def include(self, other: Agreement) -> None:
        """Count what another one has counted."""
        self._voxels += other._voxels

    def dice(self) -> np.ndarray:
        """Mean Dice (structures,), each answer weighing by its size; NaN where there is nothing to compare."""
        found = np.full(len(self._members), np.nan)
        for structure, members in enumerate(map(list, self._members)):
            sizes = self._voxels[members].sum() + self._voxels[:, members].sum()
            if sizes:
                found[structure] = 2 * self._voxels[np.ix_(members, members)].sum() / sizes
        return found


class ReliabilityMeter:
    """Sums over the parts of one case, filled while it is predicted.

    ``flips``, ``folds`` and ``configurations`` compare what these say with what they say together. Windows overlap, so
    flips and folds, which are compared window by window, count the voxels between windows more than once.
    """

    def __init__(self, labels: Labels) -> None:
        self.flips, self.folds, self.configurations = (Agreement(labels) for _ in range(3))
        self._labels = labels
        self._decision = Decision.by(labels)
        answers = len(labels.regions) or labels.count
        self._within = np.zeros(answers)  # of each region or label, the probability over the voxels of its mask
        self._everywhere = np.zeros(answers)
        self._voxels = np.zeros(answers)

    def passing(self, logits: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same slabs (channels, slices, y, x), each measured before it is handed on."""
        for slab in logits:
            slices = max(1, PART_ELEMENTS // (slab.shape[0] * slab.shape[2] * slab.shape[3]))
            for part in slab.split(slices, dim=1):
                self.add(self._decision.probabilities(part.float()))
            yield slab

    def add(self, probabilities: Tensor) -> None:
        """Measure a part of the image: probabilities (channels, z, y, x)."""
        probabilities = self._decision.of_labels(probabilities)
        # float32 within a plane, double over the planes: exact enough, and no copy of the whole in double
        self._everywhere += probabilities.sum(dim=(2, 3)).double().sum(dim=1).cpu().numpy()
        if self._labels.regions:
            indices = self._decision.from_probabilities(enumerate(probabilities))
            for region, members in enumerate(self._labels.members):
                inside = torch.isin(indices, torch.tensor(members, dtype=indices.dtype, device=indices.device))
                self._voxels[region] += int(inside.sum())
                self._within[region] += float(probabilities[region][inside].double().sum())
            return
        highest, winners = probabilities.max(dim=0)
        count = len(self._voxels)
        self._voxels += torch.bincount(winners.flatten(), minlength=count).cpu().numpy()
        self._within += torch.bincount(winners.flatten(), highest.flatten().double(), minlength=count).cpu().numpy()

    def features(self) -> tuple[LabelFeatures, ...]:
        """What was measured of each structure: each region, or each label but the background."""
        names = self._labels.structures
        estimated = 2 * self._within / np.maximum(self._everywhere + self._voxels, np.finfo(float).tiny)
        estimated, voxels = estimated[-len(names) :], self._voxels[-len(names) :]  # a first channel may be background
        members = [part.dice() for part in (self.flips, self.folds, self.configurations)]

        def known(values: np.ndarray, structure: int) -> float | None:
            return float(values[structure]) if voxels[structure] and np.isfinite(values[structure]) else None

        return tuple(
            LabelFeatures(
                label=name,
                estimated_dice=known(estimated, structure),
                flip_agreement=known(members[0], structure),
                fold_agreement=known(members[1], structure),
                configuration_agreement=known(members[2], structure),
            )
            for structure, name in enumerate(names)
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


def regions_entropy(probabilities: np.ndarray) -> np.ndarray:
    """How undecided the probabilities (regions, z, y, x) of regions are: the most undecided counts, float32 (z, y, x).

    >>> regions_entropy(np.array([[[[1.0, 0.5]]], [[[0.0, 0.9]]]])).round(6).tolist()
    [[[0.0, 1.0]]]
    """
    return np.max([normalized_entropy(np.stack([one, 1 - one])) for one in probabilities], axis=0)

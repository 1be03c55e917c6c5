"""Join the predictions of several models for one case: the mean of their probabilities decides.

Probabilities, not logits: networks of different configurations may be confident on different scales. (The folds of one
configuration share a scale; ``predict`` averages their logits.) The models advance together, slab by slab of the image,
so that none of them ever has to keep all of its probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from nnlite.data.image import Image
from nnlite.data.progress import Progress, silent
from nnlite.inference.predict import Model, Prediction, ReadyCase, predict_case, ready_case, restorable_logits
from nnlite.inference.reliability import ReliabilityMeter
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import Restoration
from nnlite.preprocessing.restore import (
    KeepProbabilities,
    Logits,
    RestoredSlab,
    background,
    on_image,
    restored_slabs,
)


def predict_together(
    models: Sequence[Model],
    case_id: str,
    image: Image,
    *,
    keep_probabilities: KeepProbabilities | None = None,
    progress: Progress = silent,
) -> Prediction:
    """Predict a raw image with all of these models, as ``predict_image`` does with one."""
    cases = [ready_case(model, case_id, image, progress=progress) for model in models]
    indices = predict_cases(models, cases, keep_probabilities=keep_probabilities, progress=progress)
    return Prediction(case_id=case_id, indices=models[0].plan.labels.without_border(indices))


def predict_cases(
    models: Sequence[Model],
    cases: Sequence[ReadyCase],
    *,
    keep_probabilities: KeepProbabilities | None = None,
    meter: ReliabilityMeter | None = None,
    progress: Progress = silent,
) -> np.ndarray:
    """Label indices (z, y, x) on the grid of the image from one case, preprocessed for each of the models.

    ``meter`` measures how far they can be trusted: of one model on its own grid, of several on that of the image. The
    border of instances, where it was learned, has its own index (``Labels.border_index``).
    """
    if len(models) == 1:
        [model], [case] = models, cases
        return predict_case(model, case, keep_probabilities=keep_probabilities, meter=meter, progress=progress)
    members = [
        restorable_logits(model, case, meter=meter, progress=progress)
        for model, case in zip(models, cases, strict=True)
    ]
    labels = {model.plan.labels for model in models}
    if len(labels) != 1:
        raise ValueError(f"only models of the same labels can answer together, not {labels or 'none'}")
    decision = Decision.by(labels.pop())
    return combine(members, decision=decision, keep_probabilities=keep_probabilities, meter=meter)


def combine(
    members: Sequence[tuple[Logits, Restoration]],
    *,
    decision: Decision,
    keep_probabilities: KeepProbabilities | None = None,
    meter: ReliabilityMeter | None = None,
) -> np.ndarray:
    """Label indices (z, y, x) of the highest mean probability, from each member's logits and its way back.

    The members may lie on different grids, but must be of one image and crop. Their memory adds up: each keeps its band
    of logits. Where labels tie, the first of them wins.
    """
    everyone = range(len(members))
    meters = [meter] if meter else []
    return combine_each(members, [everyone], decision=decision, keep_probabilities=keep_probabilities, meters=meters)[0]


@torch.inference_mode()
def combine_each(
    members: Sequence[tuple[Logits, Restoration]],
    groups: Sequence[Sequence[int]],
    *,
    decision: Decision,
    keep_probabilities: KeepProbabilities | None = None,
    meters: Sequence[ReliabilityMeter] = (),
) -> list[np.ndarray]:
    """What ``combine`` says of each group of members, all in one pass; a group names members by their place.

    ``keep_probabilities`` is given those of the first group; there is a meter for each group, or none.
    """
    restorations = [restoration for _, restoration in members]
    if len({(r.case_id, r.shape, r.box, r.transpose) for r in restorations}) != 1:
        told = ", ".join(f"{r.case_id} {r.shape}, axes {r.transpose}" for r in restorations)
        raise ValueError(f"only predictions of one case with the same axis order can be combined, not {told or 'none'}")
    restoration = restorations[0]
    masks = [background(restoration, labels=decision.labels) for _ in groups]
    streams = [chain.from_iterable(restored_slabs(*member, stacked=True)) for member in members]
    for slabs in zip(*streams, strict=True):  # cut alike, as they lead to the same box
        target, probabilities = slabs[0].target, _probabilities(slabs, decision)
        answers = [_answer(decision, volume) for volume in probabilities] if meters else []
        for number, (mask, group) in enumerate(zip(masks, groups, strict=True)):
            mean = _mean([probabilities[member] for member in group])
            together = decision.from_probabilities(enumerate(mean))
            restoration.inside(mask)[target] = together.cpu().numpy()
            if meters:
                meters[number].add(mean)
                said = decision.without_border(together)
                meters[number].configurations.add([answers[member] for member in group], said)
            if keep_probabilities is not None and mask is masks[0]:
                keep_probabilities(*on_image(decision.of_labels(mean), target, restoration))
    return masks


def _answer(decision: Decision, probabilities: Tensor) -> Tensor:
    """Label indices of one member, for comparison."""
    return decision.without_border(decision.from_probabilities(enumerate(probabilities)))


def _probabilities(slabs: Sequence[RestoredSlab], decision: Decision) -> list[Tensor]:
    """Float32 probabilities (labels, z, y, x) of each member, where the first member's logits are."""
    if len({len(slab.source[0]) for slab in slabs}) != 1:
        numbers = " and ".join(str(len(slab.source[0])) for slab in slabs)
        raise ValueError(f"predictions of {numbers} labels cannot be combined")
    device = slabs[0].source[0].device
    return [decision.probabilities(slab.stacked()).to(device) for slab in slabs]


def _mean(volumes: Sequence[Tensor]) -> Tensor:
    total = volumes[0].clone()
    for volume in volumes[1:]:
        total += volume
    return total.div_(len(volumes))

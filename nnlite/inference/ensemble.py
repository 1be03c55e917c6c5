"""Join the predictions of several models for one case: the mean of their probabilities decides.

Probabilities, not logits: networks of different configurations may be confident on different scales. (The folds of one
configuration share a scale; ``predict`` averages their logits.) The models advance together, slab by slab of the image,
so that none of them ever has to keep all of its probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nnlite.data.image import Image
from nnlite.data.progress import Progress, silent
from nnlite.inference.predict import Model, Prediction, logit_slabs, ready_case
from nnlite.preprocessing.preprocess import Restoration
from nnlite.preprocessing.resample import winner
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
    members = [
        (logit_slabs(model, case, progress=progress), case.restoration)
        for model, case in zip(models, cases, strict=True)
    ]
    labels = {model.plan.labels for model in models}
    if len(labels) != 1:
        raise ValueError(f"only models of the same labels can answer together, not {labels or 'none'}")
    indices = combine(members, labels=labels.pop().count, keep_probabilities=keep_probabilities)
    return Prediction(case_id=case_id, indices=indices)


@torch.inference_mode()
def combine(
    members: Sequence[tuple[Logits, Restoration]],
    *,
    labels: int,
    keep_probabilities: KeepProbabilities | None = None,
) -> np.ndarray:
    """Label indices (z, y, x) of the highest mean probability, from each member's logits and its way back.

    The members may lie on different grids, but must be of one image and crop. Their memory adds up: each keeps its band
    of logits. Where labels tie, the first of them wins.
    """
    restorations = [restoration for _, restoration in members]
    if len({(r.case_id, r.shape, r.box, r.transpose) for r in restorations}) != 1:
        told = ", ".join(f"{r.case_id} {r.shape}, axes {r.transpose}" for r in restorations)
        raise ValueError(f"only predictions of one case with the same axis order can be combined, not {told or 'none'}")
    restoration = restorations[0]
    indices = background(restoration, labels=labels)
    inside = restoration.inside(indices)
    streams = [restored_slabs(logits, way_back, stacked=True) for logits, way_back in members]
    for slabs in zip(*streams, strict=True):  # cut alike, as they lead to the same box
        mean = _mean_probabilities(slabs)
        inside[slabs[0].target] = winner(enumerate(mean)).cpu().numpy()
        if keep_probabilities is not None:
            keep_probabilities(*on_image(mean, slabs[0].target, restoration))
    return indices


def _mean_probabilities(slabs: Sequence[RestoredSlab]) -> Tensor:
    """Mean float32 probabilities (labels, z, y, x) of the members, where the first member's logits are."""
    total = slabs[0].stacked().softmax(dim=0)
    for slab in slabs[1:]:
        if len(slab.source[0]) != len(total):
            raise ValueError(f"predictions of {len(total)} and {len(slab.source[0])} labels cannot be combined")
        total += slab.stacked().softmax(dim=0).to(total.device)
    return total.div_(len(slabs))

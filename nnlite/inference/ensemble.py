"""Join the predictions of several configurations for one case: the mean of their probabilities decides.

Probabilities, not logits: networks of different configurations may be confident on different scales. (The folds of one
configuration share a scale; ``predict`` averages their logits.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnlite.inference.predict import Prediction


def combine(predictions: Sequence[Prediction]) -> Prediction:
    """The label indices of the highest mean probability, from predictions of one case that carry probabilities.

    One label is averaged at a time against a running maximum, so that memory does not grow with the number of labels.
    The result carries no probabilities of its own. Where labels tie, the first of them wins.
    """
    members = [_probabilities(prediction) for prediction in predictions]
    if len({(prediction.case_id, member.shape) for prediction, member in zip(predictions, members, strict=True)}) != 1:
        told = ", ".join(f"{p.case_id} {m.shape}" for p, m in zip(predictions, members, strict=True))
        raise ValueError(f"only predictions of one case with the same labels can be combined, not {told or 'none'}")
    indices = np.zeros(predictions[0].indices.shape, dtype=predictions[0].indices.dtype)
    best = _mean(members, 0)
    for label in range(1, len(members[0])):
        mean = _mean(members, label)
        better = mean > best
        indices[better] = label
        best[better] = mean[better]
    return Prediction(case_id=predictions[0].case_id, indices=indices)


def _probabilities(prediction: Prediction) -> np.ndarray:
    if prediction.probabilities is None:
        raise ValueError(f"the prediction of {prediction.case_id} carries no probabilities")
    return prediction.probabilities


def _mean(members: Sequence[np.ndarray], label: int) -> np.ndarray:
    """Mean float32 probability (z, y, x) of one label."""
    total = members[0][label].astype(np.float32)
    for member in members[1:]:
        total += member[label]
    return total / len(members)

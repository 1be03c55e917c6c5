"""The atlas of a fold: how often each structure is at a place of the image, over the cases that it is trained on.

Cases that are held out play no part. Voxels to be ignored, and structures that were not drawn in a case, are not
counted; a place that no case tells of is no background either, and gets the mean over all that is told of. The border
of instances is a part of its label. In training a patch sees the atlas of the other cases: its own case would add its
label to it, so that a place where a frequency is 0 would be background for certain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nnlite.planning.planner import Plan
from nnlite.planning.prior import Prior
from nnlite.preprocessing.places import axis_places
from nnlite.preprocessing.store import StoredCase


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasCounts:
    """In how many cases each structure is at a place (``hits``), of how many that tell of it (``told``).

    Both are (structures, *atlas_shape) float32; outside of its cropped box a case has nothing.
    """

    plan: Plan
    hits: np.ndarray
    told: np.ndarray

    @classmethod
    def of(cls, cases: Iterable[StoredCase], plan: Plan) -> AtlasCounts:
        """Counted over all these cases."""
        assert plan.prior is not None, "a plan without a prior has no atlas"
        hits = np.zeros((len(plan.labels.members), *plan.prior.atlas_shape), dtype=np.float32)
        told = np.zeros_like(hits)
        for stored in cases:
            there, known = _of_case(stored, plan)
            hits += there
            told += known
        return cls(plan=plan, hits=hits, told=told)

    def frequencies(self) -> np.ndarray:
        """The atlas (structures, *atlas_shape) float32."""
        return _frequencies(self.hits, self.told)

    def without(self, stored: StoredCase) -> np.ndarray:
        """The same of all cases but one of those that were counted."""
        there, known = _of_case(stored, self.plan)
        return _frequencies(self.hits - there, self.told - known)


def _frequencies(hits: np.ndarray, told: np.ndarray) -> np.ndarray:
    """The share of hits at each place; where no case tells, that over all places of the structure (0 if none is told).

    >>> _frequencies(np.array([[2, 0, 0]]), np.array([[2, 2, 0]])).tolist()
    [[1.0, 0.0, 0.5]]
    """
    anywhere = tuple(range(1, hits.ndim))
    share = hits.sum(axis=anywhere, keepdims=True) / np.maximum(told.sum(axis=anywhere, keepdims=True), 1)
    return np.where(told > 0, hits / np.maximum(told, 1), share)


def _of_case(stored: StoredCase, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Where each structure is, and where the case tells of it: (structures, *atlas_shape) bool both."""
    labels, prior, case = plan.labels, plan.prior, stored.mapped()
    assert prior is not None, "a plan without a prior has no atlas"
    assert case.label is not None, "cases for training have labels"
    indices = labels.without_border(_on_atlas(case.label, stored, prior))
    known = np.ones(indices.shape, dtype=bool) if labels.ignore_index is None else indices != labels.ignore_index
    drawn = np.ones(labels.outputs, dtype=bool) if case.drawn is None else case.drawn
    first = int(not labels.regions)  # the background's channel comes before those of labels
    told = np.stack([known & drawn[first + structure] for structure in range(len(labels.members))])
    return np.stack([np.isin(indices, members) for members in labels.members]) & told, told


def _on_atlas(label: np.ndarray, stored: StoredCase, prior: Prior) -> np.ndarray:
    """Label indices at the middle of each voxel of the atlas, background outside of the case."""
    nearest, inside = [], np.ones(prior.atlas_shape, dtype=bool)
    for axis, count in enumerate(prior.atlas_shape):
        wanted = (np.arange(count) + 0.5) / count
        middles = axis_places(stored.restoration, axis, 0, label.shape[axis])
        step = (middles[-1] - middles[0]) / (len(middles) - 1) if len(middles) > 1 else 1.0
        voxel = np.rint((wanted - middles[0]) / step).astype(int) if len(middles) > 1 else np.zeros(count, dtype=int)
        there = (voxel >= 0) & (voxel < label.shape[axis])
        inside &= there.reshape(-1, *(1,) * (2 - axis))
        nearest.append(voxel.clip(0, label.shape[axis] - 1))
    return np.where(inside, label[np.ix_(*nearest)], 0)

"""The atlas of a fold: how often each structure is at a place of the image, over the cases that it is trained on.

Cases that are held out play no part. Voxels to be ignored, and structures that were not drawn in a case, are not
counted. The border of instances is a part of its label.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nnlite.planning.planner import Plan
from nnlite.planning.prior import Prior
from nnlite.preprocessing.places import axis_places
from nnlite.preprocessing.store import StoredCase


def count_atlas(cases: Iterable[StoredCase], plan: Plan) -> np.ndarray:
    """Frequencies (structures, *atlas_shape) float32; outside of its cropped box a case has nothing.

    A place that no case tells of has a frequency of 0.
    """
    labels, prior = plan.labels, plan.prior
    assert prior is not None, "a plan without a prior has no atlas"
    hits = np.zeros((len(labels.members), *prior.atlas_shape), dtype=np.float32)
    told = np.zeros_like(hits)
    for stored in cases:
        case = stored.mapped()
        assert case.label is not None, "cases for training have labels"
        indices = labels.without_border(_on_atlas(case.label, stored, prior))
        known = np.ones(indices.shape, dtype=bool) if labels.ignore_index is None else indices != labels.ignore_index
        drawn = np.ones(labels.outputs, dtype=bool) if case.drawn is None else case.drawn
        for structure, members in enumerate(labels.members):
            if drawn[structure + (not labels.regions)]:  # the background's channel comes before those of labels
                hits[structure] += np.isin(indices, members) & known
                told[structure] += known
    return hits / np.maximum(told, 1)


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

"""How far the borders of an answer lie from those of the target: a mean over voxels weighted by their distance.

Kervadec et al., MIDL 2019 and Medical Image Analysis 67, 101851, 2021. The distance of two borders is an integral over
what lies between them, and so over all voxels: of the signed distance to the border of the target times the difference
of answer and target. It says little while the answer is far off; so it takes the place of the other terms little by
little (the paper's "rebalance" strategy).
"""

from __future__ import annotations

from torch import Tensor

from nnlite.training.loss_terms.level import Level

LEAST_OF_OTHERS = 0.01  # what the other terms count in the end, as in the paper


def boundary(level: Level) -> Tensor:
    """Mean over structures and voxels of distance times (probability - target); 0 is perfect.

    The paper leaves the part without the probability out, for it has no gradient; here it makes that 0.
    """
    distances = level.maps.distances
    if distances is None:
        raise ValueError("the loss boundary needs the distances of the target; make batches with its maps")
    off = level.probabilities[:, level.first_structure :] - level.wanted[:, level.first_structure :]
    if distances.shape != off.shape:
        raise ValueError(f"distances of shape {tuple(distances.shape)} for structures of shape {tuple(off.shape)}")
    return level.mean(distances.to(off.dtype) * off)


def share_of_others(share_done: float) -> float:
    """What the terms beside the boundary count when this share of the training is done; the boundary has the rest.

    >>> [share_of_others(done) for done in (0, 0.25, 1)]
    [1.0, 0.75, 0.01]
    """
    return max(LEAST_OF_OTHERS, 1.0 - share_done)

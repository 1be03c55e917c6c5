"""Make a cascade's low-resolution input as faulty as it will be on new cases.

The second stage of a cascade would otherwise learn to copy its input. Two transforms of nnU-Net (Isensee et al., Nature
Methods 18, 203-211, 2021): random morphology of single labels, and single components taken out.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from nnlite.training.share import Share

MORPHOLOGY_PROBABILITY = 0.4
MORPHOLOGY_RADIUS_VOXELS = (1, 4)
REMOVAL_PROBABILITY = 0.2
LARGEST_SHARE_REMOVED = 0.15  # of the patch: the main organ itself is never taken out


def disturb_previous(previous: Tensor, rng: np.random.Generator, share: Share | None = None) -> Tensor:
    """Disturb low-resolution predictions (batch, *size) of label indices, which are the ``share`` of a batch.

    What is drawn of a sample depends on the labels in it, so each has random numbers of its own.
    """
    share = share or Share.whole(len(previous))
    own = rng.spawn(share.samples)[share.first : share.stop]
    return torch.stack([_remove_component(_morphology(one, its), its) for one, its in zip(previous, own, strict=True)])


def _morphology(label: Tensor, rng: np.random.Generator) -> Tensor:
    """Dilate, erode, open or close one label of the sample."""
    if rng.random() >= MORPHOLOGY_PROBABILITY:
        return label
    chosen = _random_label(label, rng)
    if chosen is None:
        return label
    radius = int(rng.integers(MORPHOLOGY_RADIUS_VOXELS[0], MORPHOLOGY_RADIUS_VOXELS[1] + 1))
    steps = (("dilate",), ("erode",), ("erode", "dilate"), ("dilate", "erode"))[rng.integers(4)]
    mask = (label == chosen).float()
    for step in steps:
        mask = grow(mask, radius) if step == "dilate" else 1 - grow(1 - mask, radius)
    result = label.clone()
    result[(label == chosen) & (mask == 0)] = 0
    result[(label == 0) & (mask > 0)] = chosen  # other labels keep their voxels
    return result


def grow(mask: Tensor, radius: int) -> Tensor:
    """Dilate a 0/1 mask (*size) by a cube of ``2 * radius + 1`` voxels."""
    pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[mask.ndim]
    return pool(mask[None, None], 2 * radius + 1, stride=1, padding=radius)[0, 0]


def _remove_component(label: Tensor, rng: np.random.Generator) -> Tensor:
    """Take out one connected component, unless it fills much of the patch."""
    if rng.random() >= REMOVAL_PROBABILITY:
        return label
    chosen = _random_label(label, rng)
    if chosen is None:
        return label
    components, count = ndimage.label((label == chosen).cpu().numpy())
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    small = np.flatnonzero(sizes < LARGEST_SHARE_REMOVED * components.size) + 1
    if not len(small):
        return label
    removed = torch.from_numpy(components == small[rng.integers(len(small))]).to(label.device)
    return torch.where(removed, 0, label)


def _random_label(label: Tensor, rng: np.random.Generator) -> int | None:
    present = torch.unique(label)
    present = present[present > 0]
    return int(present[rng.integers(len(present))]) if len(present) else None

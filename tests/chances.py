"""What a transform of the augmentation draws from, for tests that run one alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnlite.training.augmentation.chance import Chance, Transform
from nnlite.training.augmentation.imaging import Hounsfield, Imaging
from nnlite.training.augmentation.presets import PRESETS
from nnlite.training.share import Share

CT = Hounsfield(scan=0, at_zero=100.0, per_unit=200.0, low=-900.0, high=1500.0)
CT_VOLUMES = Imaging(hounsfield=(CT,), spacing_mm=(5.0, 1.0, 1.0), axial=(1, 2))


def chance(
    images: Tensor,
    limits: tuple[float, float],
    *,
    probability: float = 1.0,
    seed: int = 0,
    share: Share | None = None,
    imaging: Imaging | None = None,
) -> Chance:
    """Certain to befall every sample, unless ``probability`` says otherwise."""
    rng = np.random.default_rng(seed)
    noise = torch.Generator(images.device).manual_seed(seed + 1)
    share = share or Share.whole(len(images))
    imaging = imaging or Imaging()
    return Chance(probability=probability, limits=limits, rng=rng, noise=noise, share=share, imaging=imaging)


def as_in_nnunet(images: Tensor, name: str, *, probability: float | None = None, seed: int = 0) -> Tensor:
    """The images after a step of the preset nnunet alone, as often as it comes there; ``images`` stay as they are."""
    step = next(step for step in PRESETS["nnunet"].steps if step.name == name)
    often = step.probability if probability is None else probability
    return step.transform(images.clone(), chance(images, step.limits, probability=often, seed=seed))


def same_in_shares(
    transform: Transform, images: Tensor, limits: tuple[float, float], imaging: Imaging | None = None
) -> bool:
    """Whether parts of a batch, each transformed by a process of its own, are those of the whole batch."""
    count = len(images)
    shares = [Share(first=first, stop=min(first + 2, count), samples=count) for first in range(0, count, 2)]

    def done(share: Share) -> Tensor:
        mine = images[share.first : share.stop].clone()
        return transform(mine, chance(mine, limits, probability=0.6, share=share, imaging=imaging))

    whole = done(Share.whole(count))
    return torch.equal(torch.cat([done(share) for share in shares]), whole) and not torch.equal(whole, images)

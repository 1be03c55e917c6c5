"""Random occlusion: boxes of a patch lose their image and the masks that are made of it, not their label.

Cutout (DeVries and Taylor, arXiv 1708.04552, 2017) and random erasing (Zhong et al., AAAI 2020): what lies in a box can
then only be told from what is around it.
"""

from __future__ import annotations

from torch import Tensor

from nnlite.training.augmentation.chance import Chance

MOST_BOXES = 3  # of a sample


def occlude(images: Tensor, chance: Chance) -> Tensor:
    """Fill one to three boxes of a sample with each channel's mean; along each axis they take a share of the patch.

    Places, by which an atlas is looked up, stay.
    """
    size = images.shape[2:]
    shown = [channel for channel in range(images.shape[1]) if channel not in chance.imaging.places]
    for row, rng in chance.own():
        sample = images[row]
        mean = sample.mean(tuple(range(1, sample.ndim)), keepdim=True)
        for _ in range(int(rng.integers(1, MOST_BOXES + 1))):
            sides = [max(1, round(length * rng.uniform(*chance.limits))) for length in size]
            starts = [int(rng.integers(0, length - side + 1)) for length, side in zip(size, sides, strict=True)]
            box = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
            for channel in shown:
                sample[channel][box] = mean[channel]
    return images

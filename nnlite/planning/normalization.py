"""How a channel is normalised, told by its name, as in nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021)."""

from __future__ import annotations

from collections.abc import Mapping

from nnlite.planning.configurations import NormalizationScheme

SCHEMES: Mapping[str, NormalizationScheme] = {
    "ct": "ct",
    "nonorm": "none",
    "zscore": "zscore",
    "rescale_to_0_1": "rescale_to_0_1",
    "rgb_to_0_1": "rgb_to_0_1",
}

MASK_BELOW = 0.75  # of the voxels left by cropping zeros away: then zeros are no tissue and stay out of statistics


def normalization_scheme(channel: str) -> NormalizationScheme:
    """How a channel of that name is normalised; z-score unless the name says otherwise.

    >>> [normalization_scheme(name) for name in ("CT", "T1", "rgb-red", "noNorm")]
    ['ct', 'zscore', 'rgb_to_0_1', 'none']
    """
    name = channel.strip().lower()
    if name.startswith(("rgb-", "rgb ")):
        return "rgb_to_0_1"
    return SCHEMES.get(name, "zscore")


def needs_mask(scheme: str, relative_size: float) -> bool:
    """Whether zeros stay out of a channel's statistics; ``relative_size`` of an image is what cropping leaves."""
    return scheme == "zscore" and relative_size < MASK_BELOW


def mask_reason(relative_size: float) -> str:
    """Why that is so, in words."""
    return (
        f"cropping zeros away leaves {relative_size:.0%} of the median image; below {MASK_BELOW:.0%} z-scores use only "
        "voxels that are not zero"
    )

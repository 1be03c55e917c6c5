"""The steps of a prediction that can be computed in more than one way; every model says which way is its own.

Networks of nnlite's own training take the defaults. A network that was trained elsewhere may expect each of them as it
was there: prepared in that way, blended in that way, down to the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlite.data.image import Orientation
from nnlite.inference.blending import BandMaker, GaussianBand
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration, preprocess
from nnlite.preprocessing.restore import Logits

Preprocess = Callable[..., PreprocessedCase]
"""Makes a case ready; takes what ``preprocess`` takes, but for a label."""

Restore = Callable[[Iterable[Tensor], Restoration], tuple[Logits, Restoration]]
"""Brings slabs of logits closer to the image's grid, and gives what is left of the way."""


def _in_passing(logits: Iterable[Tensor], restoration: Restoration) -> tuple[Logits, Restoration]:
    """Nothing yet: what reads the slabs interpolates them."""
    return logits, restoration


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """One way to compute a prediction.

    - ``orientation``: the axes in which the network wants its images
    - ``preprocess``: from the image to what the network sees
    - ``band``: where windows are blended
    - ``folds_apart``: each fold is blended for itself and the blended logits are averaged, not those of each window
    - ``windows_alone``: the network sees one window at a time, not a batch
    - ``no_shortcuts``: the layers are computed by torch's own choice of kernels, to the bit
    - ``autocast_dtype``: precision of the convolutions; None is float32
    - ``restore``: logits from the grid of the network toward that of the image
    """

    orientation: Orientation = "canonical"
    preprocess: Preprocess = preprocess
    band: BandMaker = GaussianBand
    folds_apart: bool = False
    windows_alone: bool = False
    no_shortcuts: bool = False
    autocast_dtype: torch.dtype | None = None
    restore: Restore = _in_passing

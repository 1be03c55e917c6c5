"""How nnU-Net computes a prediction, for models that were trained there.

Its blending is kept even where nothing asks for exactness: the window's weights have their centre at voxel n // 2 and
are rounded to half precision, and so are all sums. That decides between labels wherever windows disagree, and nowhere
more than in the corners of a volume, where half precision leaves a weight one or two digits. Windows come in the same
order, so the slabs of ``predict_slabs`` are to the bit what nnU-Net makes of the whole volume.
Facts: nnU-Net 2.8.1, predict_from_raw_data.py, sliding_window_prediction.py and export_prediction.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nnlite.inference.arithmetic import Arithmetic
from nnlite.inference.blending import SIGMA_PER_WINDOW, Number, WindowGrid, move_to_front
from nnlite.interop.nnunet_preprocessing import preprocess_alike, preprocess_exactly, resize
from nnlite.preprocessing.preprocess import Restoration
from nnlite.preprocessing.restore import Logits

PEAK_WEIGHT = 10  # at the centre of a window; more of the Gaussian's flanks survive half precision
CACHED_WEIGHTS = 4  # patches of the models in use: one, two in a cascade or an ensemble


@lru_cache(maxsize=CACHED_WEIGHTS)
def window_weights(window: tuple[int, ...]) -> Tensor:
    """How much each voxel of a window counts, (z, y, x) float16: a Gaussian that is nowhere 0.

    What would round to 0 gets the smallest weight there is. A window of one slice is one of a 2D network.

    >>> window_weights((1, 1, 4)).flatten().tolist()[1:]
    [1.353515625, 10.0, 1.353515625]
    """
    from scipy.ndimage import gaussian_filter

    size = window[1:] if window[0] == 1 else window
    centre = np.zeros(size)
    centre[tuple(length // 2 for length in size)] = 1
    gaussian = gaussian_filter(centre, [length * SIGMA_PER_WINDOW for length in size], mode="constant")
    weights = torch.from_numpy(gaussian / (gaussian.max() / PEAK_WEIGHT)).half()
    weights[weights == 0] = weights[weights > 0].min()
    return weights.reshape(window)


class HalfPrecisionBand:
    """A ``Band`` of half precision: weighted logits and weights are summed, and divided when all windows have come."""

    def __init__(self, grid: WindowGrid, *, labels: int, depth: int, device: torch.device):
        self.grid = grid
        self.top = 0
        self._sums = torch.zeros((labels, depth, *grid.size[1:]), dtype=torch.half, device=device)
        self._weights_seen = torch.zeros((1, depth, *grid.size[1:]), dtype=torch.half, device=device)
        self._window = window_weights(grid.window).to(device)

    def add(self, number: Number, logits: Tensor) -> None:
        """See ``Band``; ``logits`` is written to."""
        region = self.grid.region(number, self.top)
        self._sums[region] += logits.mul_(self._window)
        self._weights_seen[region] += self._window

    def finished(self, slices: int) -> Tensor:
        """See ``Band``; float16, and divided once and for all."""
        return self._sums[:, :slices].div_(self._weights_seen[:, :slices])

    def move_on(self, finished: int, begun: int) -> None:
        """See ``Band``."""
        move_to_front(self._sums, finished, begun)
        move_to_front(self._weights_seen, finished, begun)
        self.top += finished


@torch.inference_mode()
def restore_exactly(logits: Iterable[Tensor], restoration: Restoration) -> tuple[Logits, Restoration]:
    """All logits on the cropped grid of the image, interpolated in float64 and rounded to half precision.

    Takes the memory of all labels at once, as nnU-Net does. Nothing is left to interpolate on the way back.
    """
    # a slab is a view that the next one overwrites
    on_grid = torch.cat([slab.to("cpu", torch.half, copy=True) for slab in logits], dim=1)
    target, separate = restoration.cropped_shape, restoration.separate_axis
    restored = torch.from_numpy(resize(on_grid.numpy(), target, order=1, separate=separate))
    there = replace(restoration, resampled_shape=target, resampled_spacing_mm=restoration.spacing_mm)
    return restored, there


def arithmetic(device: torch.device, *, exact: bool) -> Arithmetic:
    """nnU-Net's arithmetic on a CPU to the bit, or what differs from it in rounding alone and is faster."""
    shared = Arithmetic(orientation="file", band=HalfPrecisionBand, folds_apart=True)
    if exact:
        return replace(
            shared,
            preprocess=preprocess_exactly,
            restore=restore_exactly,
            windows_alone=True,
            no_shortcuts=True,
        )
    # bfloat16 on a CPU would change several voxels in 10,000; on a GPU nnU-Net computes in half precision itself
    return replace(shared, preprocess=preprocess_alike, autocast_dtype=torch.float16 if device.type == "cuda" else None)

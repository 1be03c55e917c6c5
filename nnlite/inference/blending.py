"""Blend the overlapping answers of windows: a weighted mean at every voxel.

The windows form a grid and the Gaussian is a product of one curve per axis, so the sum of all weights at a voxel is
such a product too. Weights are therefore divided by their sum axis by axis and beforehand: at every voxel they add up
to one, no volume of summed weights is kept, and a voxel that one window alone sees gets exactly what that window says.
Gaussian width 1/8 of the window follows nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

SIGMA_PER_WINDOW = 1 / 8  # at 4 sigma from its centre, its border, a window counts 0.03 % of its centre

Number = tuple[int, ...]
"""Which window: its place along z, y and x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGrid:
    """Windows of one size over a volume of ``size`` (z, y, x), with their first voxels along each axis."""

    size: tuple[int, ...]
    window: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]

    def corner(self, number: Number) -> tuple[int, ...]:
        """First voxel (z, y, x) of a window."""
        return tuple(axis[place] for axis, place in zip(self.starts, number, strict=True))

    def region(self, number: Number, top: int = 0) -> tuple[slice, ...]:
        """All channels of the voxels of a window, in a volume that begins at slice ``top``."""
        z, y, x = self.corner(number)
        corner = (z - top, y, x)
        return (slice(None), *(slice(first, first + length) for first, length in zip(corner, self.window, strict=True)))


class Band(Protocol):
    """Neighbouring slices of a volume of logits (labels, z, y, x) on which windows are being blended.

    It starts at the first slice of the volume; when some slices are finished it moves on. ``top`` is where it is.
    """

    grid: WindowGrid
    top: int

    def add(self, number: Number, logits: Tensor) -> None:
        """Take in what the network says about a window: (labels, *window) float32, which may be written to."""

    def finished(self, slices: int) -> Tensor:
        """The first so many slices, which no later window touches; a view that holds until the band moves on."""

    def move_on(self, finished: int, begun: int) -> None:
        """Forget the ``finished`` slices; the ``begun`` ones after them have windows still to come."""


class BandMaker(Protocol):
    """Makes an empty band of ``depth`` slices."""

    def __call__(self, grid: WindowGrid, *, labels: int, depth: int, device: torch.device) -> Band:
        """See above."""


class GaussianBand:
    """A ``Band`` of float32, with weights that add up to one beforehand."""

    def __init__(self, grid: WindowGrid, *, labels: int, depth: int, device: torch.device):
        self.grid = grid
        self.top = 0
        self._logits = torch.zeros((labels, depth, *grid.size[1:]), device=device)
        axes = zip(grid.size, grid.window, grid.starts, strict=True)
        self._weights = [blending_weights(size, window, starts).to(device) for size, window, starts in axes]

    def add(self, number: Number, logits: Tensor) -> None:
        """See ``Band``."""
        z, y, x = (weights[place] for weights, place in zip(self._weights, number, strict=True))
        self._logits[self.grid.region(number, self.top)].addcmul_(logits, z[:, None, None] * y[:, None] * x)

    def finished(self, slices: int) -> Tensor:
        """See ``Band``."""
        return self._logits[:, :slices]

    def move_on(self, finished: int, begun: int) -> None:
        """See ``Band``."""
        move_to_front(self._logits, finished, begun)
        self.top += finished


def gaussian_weight(window: int) -> Tensor:
    """How much each voxel along one axis of a window counts: a Gaussian around its centre, (window,) float64.

    >>> gaussian_weight(3)[1].item()
    1.0
    """
    from_centre = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    return torch.exp(-0.5 * (from_centre / (window * SIGMA_PER_WINDOW)) ** 2)


def blending_weights(size: int, window: int, starts: Sequence[int]) -> Tensor:
    """Weights of all windows along one axis, (windows, window) float32: they add up to one at each of ``size`` voxels.

    >>> blending_weights(size=3, window=2, starts=[0, 1])
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]])
    """
    gaussian = gaussian_weight(window)
    total = torch.zeros(size, dtype=torch.float64)
    for start in starts:
        total[start : start + window] += gaussian
    return torch.stack([gaussian / total[start : start + window] for start in starts]).float()


def move_to_front(volumes: Tensor, finished: int, begun: int) -> None:
    """Move the slices that windows have ``begun``, and more will touch, to the front, and clear the others."""
    for volume in volumes:  # one label after another: what overlaps is copied twice
        volume[:begun] = volume[finished : finished + begun].clone()
        volume[begun:] = 0

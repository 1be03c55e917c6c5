"""Maps of a target that some terms of a loss want: border weights, and distances to the borders of the structures.

They are made with the batch, in the threads that prepare it, and only where the loss asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nnlite.data.labels import Labels
from nnlite.preprocessing.instances import split_by_border
from nnlite.training.loss_terms.border_weights import border_weights
from nnlite.training.loss_terms.signed_distance import signed_distance

BORDER_WEIGHTS, DISTANCES = "border weights", "distances"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetMaps:
    """Maps of the targets (batch, *size) of a batch; None is what nobody asked for.

    ``border_weights`` (batch, *size) float32; ``distances`` (batch, structures, *size) float16, in voxels of the finest
    axis at full resolution, the border of instances being a structure where it is learned.
    """

    border_weights: Tensor | None = None
    distances: Tensor | None = None

    def changed(self, change: Callable[[Tensor], Tensor]) -> TargetMaps:
        """The same maps, each put through ``change``."""
        if self.border_weights is None and self.distances is None:
            return self
        weights, distances = (None if one is None else change(one) for one in (self.border_weights, self.distances))
        return TargetMaps(border_weights=weights, distances=distances)

    def chunks(self, parts: int) -> list[TargetMaps]:
        """The maps of the parts of a batch, which is divided as ``Tensor.chunk`` does."""
        pieces = [None if one is None else one.chunk(parts) for one in (self.border_weights, self.distances)]
        number = next((len(piece) for piece in pieces if piece is not None), parts)
        weights, distances = (piece if piece is not None else (None,) * number for piece in pieces)
        return [TargetMaps(border_weights=w, distances=d) for w, d in zip(weights, distances, strict=True)]

    def thinned_out(self, size: Sequence[int]) -> TargetMaps:
        """Nearest-neighbour copies at a smaller size."""
        return self.changed(lambda one: _thinned_out(one, size))


NO_MAPS = TargetMaps()
"""Of a loss that wants none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapMaker:
    """Makes the maps that a loss ``needs`` of targets with these labels.

    ``members`` are the indices that each structure consists of that is learned, ``border`` is that of the border of
    instances, the last of them, where there is one; ``voxel`` is the size of one, the finest axis being 1.
    """

    needs: frozenset[str]
    members: tuple[tuple[int, ...], ...]
    ignore: int | None
    border: int | None
    voxel: tuple[float, ...]

    @classmethod
    def to(cls, needs: Collection[str], labels: Labels, spacing_mm: Sequence[float]) -> MapMaker:
        """The one for targets on a grid of this spacing."""
        voxel = tuple(length / min(spacing_mm) for length in spacing_mm)
        border = () if labels.border_index is None else ((labels.border_index,),)
        return cls(
            needs=frozenset(needs),
            members=labels.members + border,
            ignore=labels.ignore_index,
            border=labels.border_index,
            voxel=voxel,
        )

    def __call__(self, labels: Tensor) -> TargetMaps:
        """The maps of targets (batch, *size), on their device."""
        if not self.needs:
            return NO_MAPS
        targets, device = labels.cpu().numpy(), labels.device
        weights = self._stacked(self._weights, targets).to(device) if BORDER_WEIGHTS in self.needs else None
        distances = self._stacked(self._distances, targets).half().to(device) if DISTANCES in self.needs else None
        return TargetMaps(border_weights=weights, distances=distances)

    def _stacked(self, make: Callable[[np.ndarray], np.ndarray], targets: np.ndarray) -> Tensor:
        return torch.from_numpy(np.stack([make(target) for target in targets]))

    def _weights(self, target: np.ndarray) -> np.ndarray:
        border = target == self.border  # it tells touching cells apart, which are one component without it
        cells = None if self.border is None else split_by_border(border | (target == 1), border)
        return border_weights(target, ignore=self.ignore, voxel=self.voxel, instances=cells)

    def _distances(self, target: np.ndarray) -> np.ndarray:
        unknown = None if self.ignore is None else target == self.ignore
        return np.stack([signed_distance(np.isin(target, indices), self.voxel, unknown) for indices in self.members])


def _thinned_out(one: Tensor, size: Sequence[int]) -> Tensor:
    leading = one.shape[: one.ndim - len(size)]
    if tuple(one.shape[len(leading) :]) == tuple(size):
        return one
    flat = one.reshape(-1, 1, *one.shape[len(leading) :]).float()
    return functional.interpolate(flat, size=tuple(size), mode="nearest-exact").view(*leading, *size)

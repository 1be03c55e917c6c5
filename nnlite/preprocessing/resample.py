"""Bring a volume to another grid with one small matrix per axis; the way there and the way back.

Tensors in, tensors out: knows nothing of files or plans, and is useful outside nnlite. Resampling along an axis is a
linear operator, cubic spline prefilter included, so it is built once as a matrix of (new, old) weights and applied as a
matrix product, on whichever device the volume is. A new voxel depends on its neighbourhood alone, so the matrix is cut
into blocks of rows, each with the few columns that matter to it. Same numbers as scikit-image's ``resize`` with
``mode="edge"`` and without anti-aliasing. Separate resampling of thick slices follows nnU-Net (Isensee et al., Nature
Methods 18, 203-211, 2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

ANISOTROPY_RATIO = 3  # beyond this ratio of the largest to the smallest spacing, slices are resampled one by one
SLAB_VOXELS = 2**20  # voxels resampled at once where classes compete: 4 MiB of float32 stay in a processor's cache
GPU_SLAB_VOXELS = 2**24  # 64 MiB: a GPU wants large pieces of work, and has the bandwidth
BLOCK_ROWS = 32  # new voxels per matrix product: few enough to skip most zeros, enough to keep a processor busy
NEGLIGIBLE_WEIGHT = 1e-8  # far from a voxel the weights of a spline fall below what float32 resolves; they become 0
CACHED_OPERATORS = 12  # cubic, linear and nearest weights of three axes, and a few to spare


def resampled_shape(shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float]) -> tuple[int, ...]:
    """Size of a grid at another spacing: old / new spacing x size, rounded half to even, at least one voxel per axis.

    >>> resampled_shape((40, 300, 300), spacing_mm=(2.5, 0.8, 0.8), target_mm=(2.5, 1.0, 1.0))
    (40, 240, 240)
    """
    return tuple(max(1, round(old / new * size)) for size, old, new in zip(shape, spacing_mm, target_mm, strict=True))


def separate_axis(spacing_mm: Sequence[float], target_mm: Sequence[float]) -> int | None:
    """The axis to resample apart from the others, by nearest neighbour; None when all axes are resampled alike.

    It is the axis of the largest spacing where the current grid is anisotropic beyond ``ANISOTROPY_RATIO``, or, if the
    current grid is not, where the target grid is. Two axes that tie for the largest spacing are never separated.

    >>> separate_axis(spacing_mm=(5.0, 1.0, 1.0), target_mm=(1.0, 1.0, 1.0))
    0
    >>> separate_axis(spacing_mm=(5.0, 5.0, 1.0), target_mm=(1.0, 1.0, 1.0)) is None
    True
    """
    for spacing in (spacing_mm, target_mm):
        largest = max(spacing)
        if largest / min(spacing) > ANISOTROPY_RATIO:
            axes = [axis for axis, size in enumerate(spacing) if size == largest]
            return axes[0] if len(axes) == 1 else None
    return None


@lru_cache(maxsize=CACHED_OPERATORS)
def axis_operator(old: int, new: int, order: int) -> Tensor:
    """Weights (new, old) that resample an axis of ``old`` voxels to ``new``; float32, shared: do not write into it.

    ``order`` is 0 (nearest), 1 (linear) or 3 (cubic spline). Voxel centres lie half a voxel inside the ends of the
    axis, and beyond an end its last voxel is repeated. Every row sums to 1.

    >>> axis_operator(old=2, new=4, order=1)
    tensor([[1.0000, 0.0000],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.0000, 1.0000]])
    """
    from scipy.ndimage import zoom

    if order not in (0, 1, 3):
        raise ValueError(f"order {order} is not one of 0 (nearest), 1 (linear) and 3 (cubic)")
    # column i is the answer to a single 1 at voxel i
    columns = [zoom(unit, new / old, order=order, mode="nearest", grid_mode=True) for unit in np.eye(old)]
    weights = np.stack(columns, axis=1).astype(np.float32)
    weights[np.abs(weights) < NEGLIGIBLE_WEIGHT] = 0
    return torch.from_numpy(weights)


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring new voxels along an axis, the old ones they are made from, and the weights (rows, columns)."""

    rows: slice
    columns: slice
    weights: Tensor


Operator = tuple[Block, ...] | None
"""How one axis is resampled; None leaves it alone."""


@lru_cache(maxsize=CACHED_OPERATORS)
def axis_blocks(old: int, new: int, order: int, device: torch.device) -> tuple[Block, ...]:
    """``axis_operator`` without most of its zeros: blocks that together make all new voxels, on ``device``.

    >>> [block.columns for block in axis_blocks(128, 64, 1, torch.device("cpu"))]
    [slice(0, 64, None), slice(64, 128, None)]
    """
    weights = axis_operator(old, new, order)
    height = BLOCK_ROWS if device.type == "cpu" else new
    blocks = []
    for first in range(0, new, height):
        rows = slice(first, min(first + height, new))
        columns = _used_columns(weights[rows])
        blocks.append(Block(rows, columns, weights[rows, columns].to(device).contiguous()))
    return tuple(blocks)


def resample(
    volume: Tensor,
    new_shape: Sequence[int],
    *,
    order: int,
    separate_axis: int | None = None,
    clip: bool = False,
) -> Tensor:
    """Resample each channel of ``volume`` (channels, z, y, x) to ``new_shape`` (z, y, x); float32, on its device.

    ``separate_axis`` is resampled by nearest neighbour, the other two slice by slice. An axis whose size stays is left
    alone, to the bit. A cubic spline can overshoot at sharp borders; ``clip`` keeps each channel (with a
    ``separate_axis``, each of its slices) within the range it had, as scikit-image does by default. Without ``clip``
    the result is linear in ``volume``.
    """
    operators = _operators(volume.shape[1:], new_shape, order, separate_axis, volume.device)
    resampled = torch.empty((volume.shape[0], *new_shape), dtype=torch.float32, device=volume.device)
    for channel, target in zip(volume, resampled, strict=True):  # one by one: intermediate results stay small
        target.copy_(_apply(channel.float(), operators))
        if clip:
            _clip(target, channel.float(), operators, separate_axis)
    return resampled


def resample_labels(label: Tensor, new_shape: Sequence[int], *, count: int, separate_axis: int | None = None) -> Tensor:
    """Resample a label volume (z, y, x) of indices 0 .. count - 1: each label linearly, then the label that wins.

    Labels are taken one at a time against a running maximum, a slab of slices after another, so that memory does not
    grow with the number of labels. Of labels that tie the highest wins: thin structures survive halving the grid.
    Returns the dtype of ``label``.
    """
    if tuple(label.shape) == tuple(new_shape):
        return label.clone()
    present = [index for index in reversed(range(count)) if bool((label == index).any())]
    by_rank = torch.tensor(present, dtype=label.dtype, device=label.device)
    resampled = torch.empty(tuple(new_shape), dtype=label.dtype, device=label.device)
    for slab in slabs(label.shape, new_shape, separate_axis=separate_axis, device=label.device):
        part = label[slab.source]
        ranks = winner((rank, slab.resample((part == index).float())) for rank, index in enumerate(present))
        resampled[slab.target] = by_rank[ranks.int()]
    return resampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """Neighbouring slices of a resampled volume, and the slices of the volume before that they are made from."""

    target: slice
    source: slice
    operators: tuple[Operator, ...]

    def resample(self, part: Tensor) -> Tensor:
        """The ``target`` slices (z, y, x) from the ``source`` slices of any one volume on the old grid."""
        return _apply(part.float(), self.operators)


def slabs(
    shape: Sequence[int],
    new_shape: Sequence[int],
    *,
    separate_axis: int | None = None,
    device: torch.device | str = "cpu",
    voxels: int | None = None,
) -> Iterator[Slab]:
    """Cut the linear resampling from ``shape`` to ``new_shape`` (z, y, x) into slabs of about so many ``voxels``.

    A slab of several volumes (one per class) can then be compared and dropped before the next is begun. ``voxels`` are
    as many as suit the device; where they are given, slabs of one ``new_shape`` are cut alike on all devices.
    """
    device = torch.device(device)
    _, *plane = _operators(shape, new_shape, 1, separate_axis, device)
    depth = None if shape[0] == new_shape[0] else axis_operator(shape[0], new_shape[0], 0 if separate_axis == 0 else 1)
    voxels = voxels or (SLAB_VOXELS if device.type == "cpu" else GPU_SLAB_VOXELS)
    slices = max(1, voxels // (new_shape[1] * new_shape[2]))
    for start in range(0, new_shape[0], slices):
        target = slice(start, min(start + slices, new_shape[0]))
        if depth is None:
            yield Slab(target=target, source=target, operators=(None, *plane))
            continue
        source = _used_columns(depth[target])
        rows = slice(0, target.stop - target.start)
        block = Block(rows, slice(0, source.stop - source.start), depth[target, source].to(device).contiguous())
        yield Slab(target=target, source=source, operators=((block,), *plane))


def winner(scores: Iterable[tuple[int, Tensor]]) -> Tensor:
    """Index of the highest of several (index, score) volumes at each voxel, int16; of those that tie, the first.

    Indices have to grow. Holds one score and the running maximum, however many there are.

    >>> winner([(0, torch.tensor([0.2, 0.5])), (1, torch.tensor([0.7, 0.5]))])
    tensor([1, 0], dtype=torch.int16)
    """
    rest = iter(scores)
    first, best = next(rest)
    winners = torch.full(best.shape, first, dtype=torch.int16, device=best.device)
    for index, score in rest:
        # a later index is a larger number: to take the larger one is several times as fast as to fill under a mask
        torch.maximum(winners, (score > best).to(torch.int16).mul_(index), out=winners)
        best = torch.maximum(best, score)
    return winners


def _used_columns(weights: Tensor) -> slice:
    """From the first to the last column that is not all zeros."""
    used = weights.any(dim=0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1)


def _operators(
    shape: Sequence[int], new_shape: Sequence[int], order: int, separate: int | None, device: torch.device
) -> list[Operator]:
    """One operator per axis, None where the size stays."""
    return [
        None if old == new else axis_blocks(old, new, 0 if axis == separate else order, device)
        for axis, (old, new) in enumerate(zip(shape, new_shape, strict=True))
    ]


def _apply(volume: Tensor, operators: Sequence[Operator]) -> Tensor:
    """Apply an operator per axis of a (z, y, x) volume, those that shrink it most first: the others see less data."""
    changing = [(axis, operator) for axis, operator in enumerate(operators) if operator is not None]
    for axis, operator in sorted(changing, key=lambda pair: pair[1][-1].rows.stop / volume.shape[pair[0]]):
        volume = _along(axis, operator, volume)
    return volume


def _clip(target: Tensor, volume: Tensor, operators: Sequence[Operator], separate: int | None) -> None:
    """Limit ``target`` in place to the range of ``volume``, or of the slice of it that each slice was made from."""
    plane = [axis for axis in range(3) if axis != separate]
    nearest = [operator if axis == separate else None for axis, operator in enumerate(operators)]
    lowest, highest = (_apply(bound(volume, dim=plane, keepdim=True), nearest) for bound in (torch.amin, torch.amax))
    torch.clamp(target, lowest, highest, out=target)


def _along(axis: int, blocks: Sequence[Block], volume: Tensor) -> Tensor:
    shape = list(volume.shape)
    shape[axis] = blocks[-1].rows.stop
    result = torch.empty(shape, dtype=volume.dtype, device=volume.device)
    for block in blocks:
        if axis == 0:
            torch.mm(block.weights, volume[block.columns].flatten(1), out=result[block.rows].flatten(1))
        elif axis == 1:
            weights = block.weights.expand(shape[0], -1, -1)
            torch.bmm(weights, volume[:, block.columns], out=result[:, block.rows])
        else:
            lines = volume.flatten(0, 1)
            torch.mm(lines[:, block.columns], block.weights.T, out=result.flatten(0, 1)[:, block.rows])
    return result

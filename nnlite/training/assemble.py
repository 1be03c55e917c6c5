"""Put the patches that were read together to a batch, turned and flipped, on the device that trains.

A patch that keeps its pose is copied once, flips included. The others are interpolated: images linearly, labels linear
for each label and then the label that wins, as in nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021). Because a
pose is affine, where each voxel comes from is a sum of one number per axis, and of a smooth field where the patch is
deformed elastically; the values around it are gathered once per corner, for several patches at a time. That is a few
times faster than a general sampler on a CPU, and waits for nothing on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nnlite.training.augmentation.elastic import displacement_fields
from nnlite.training.target_maps import NO_MAPS, TargetMaps

if TYPE_CHECKING:
    from nnlite.training.patches import Patch

TOGETHER_VOXELS = (
    2**19
)  # of the patches that are interpolated together: few calls for small ones, little memory for large


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the network is trained on: images (batch, channels, *size) float32, labels (batch, *size) int64 indices.

    Where the network answers for the centre of what it sees only, labels are those of that centre. ``previous`` (batch,
    *size) int64 holds the low-resolution prediction that a cascade gets as input. ``cases`` are the ids of the cases
    that the samples are of. ``drawn`` (batch, channels) bool tells which of the network's channels stand for something
    that is drawn in a sample, None where everything is in all of them. ``maps`` of the labels are those that the loss
    wants. ``atlases`` (batch, structures, z, y, x) are those of the other cases, for each sample its own; None where
    the network has none, or its own is to be used. Where several processes share a batch, ``cases`` are of all its
    samples, and the tensors are the ``fraction`` of it that is here.
    """

    images: Tensor
    labels: Tensor
    previous: Tensor | None = None
    cases: tuple[str, ...] = ()
    drawn: Tensor | None = None
    maps: TargetMaps = NO_MAPS
    atlases: Tensor | None = None
    fraction: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Where the voxels of posed patches lie in the regions that were read, which lie behind each other in memory.

    ``first`` (voxels,) int32 is, in the flattened regions, the lowest of the 2^ndim corners around each voxel of the
    patches; ``offsets`` leads from there to every corner, the last axis changing fastest; ``weights`` has, for each
    axis, how far (voxels,) each voxel is on its way from the lower corner (0) to the upper one (1).
    """

    first: Tensor
    offsets: tuple[int, ...]
    weights: tuple[Tensor, ...]

    def corner(self, volume: Tensor, number: int) -> Tensor:
        """Values (voxels of the patches) of the flattened regions at one of the corners."""
        return volume[self.offsets[number] :].index_select(0, self.first)


def assemble(patches: Sequence[Patch], patch_size: Sequence[int], device: torch.device) -> Batch:
    """Stack patches on the device, each in its pose and mirrored along its ``flips``."""
    images = _stacked([patch.image for patch in patches], patches, patch_size, device)
    labels = _stacked([patch.label for patch in patches], patches, patch_size, device)
    previous = [patch.previous for patch in patches if patch.previous is not None]
    stages = _stacked(previous, patches, patch_size, device) if previous else None
    for rows in _together(patches, patch_size):
        posed = [patches[row] for row in rows]
        where = sampling(
            np.stack([_flipped(patch) for patch in posed]),
            patch_size,
            np.array([patch.label.shape for patch in posed]),
            device,
            [_flipped_displacements(patch) for patch in posed],
        )
        for channel in range(images.shape[1]):
            regions = _joined([patch.image[channel] for patch in posed], device)
            _put(images[:, channel], rows, interpolate(regions, where))
        _put(labels, rows, elect(_joined([patch.label for patch in posed], device), where))
        if stages is not None:
            masks = [patch.previous for patch in posed if patch.previous is not None]
            _put(stages, rows, elect(_joined(masks, device), where))
    return Batch(
        images=images,
        labels=labels.to(torch.int64),
        previous=None if stages is None else stages.to(torch.int64),
        cases=tuple(patch.case_id for patch in patches),
        drawn=_drawn(patches, device),
    )


def _drawn(patches: Sequence[Patch], device: torch.device) -> Tensor | None:
    """Which channels stand for something drawn in each sample; in those of a case without a list all labels do."""
    some = next((patch.drawn for patch in patches if patch.drawn is not None), None)
    if some is None:
        return None
    everything = np.ones_like(some)
    rows = np.stack([everything if patch.drawn is None else patch.drawn for patch in patches])
    return torch.from_numpy(rows).to(device)


def _together(patches: Sequence[Patch], patch_size: Sequence[int]) -> list[list[int]]:
    """Numbers of the patches that have a pose, in groups that are interpolated together."""
    rows = [row for row, patch in enumerate(patches) if patch.pose is not None]
    count = max(1, TOGETHER_VOXELS // math.prod(patch_size))
    return [rows[first : first + count] for first in range(0, len(rows), count)]


def _flipped(patch: Patch) -> np.ndarray:
    """The pose of a patch that is mirrored first: its offsets change sign along these axes."""
    assert patch.pose is not None
    signs = np.ones(len(patch.pose))
    signs[list(patch.flips)] = -1
    return patch.pose * signs


def _flipped_displacements(patch: Patch) -> np.ndarray | None:
    """The displacements of a patch that is mirrored first: their grid runs the other way along these axes."""
    return (
        None if patch.displacements is None else np.flip(patch.displacements, tuple(axis + 1 for axis in patch.flips))
    )


def _put(target: Tensor, rows: Sequence[int], voxels: Tensor) -> None:
    """Write the voxels of patches to some rows of (batch, *size)."""
    for row, values in zip(rows, voxels.view(len(rows), *target.shape[1:]), strict=True):
        target[row] = values


def _stacked(
    volumes: Sequence[np.ndarray], patches: Sequence[Patch], patch_size: Sequence[int], device: torch.device
) -> Tensor:
    """Volumes (..., *region) as a batch (batch, ..., *patch_size) on the device; those with a pose are left open."""
    leading = volumes[0].shape[: volumes[0].ndim - len(patch_size)]
    staged = _staging((len(volumes), *leading, *patch_size), volumes[0].dtype, device)
    filled = staged.numpy()
    for index, (volume, patch) in enumerate(zip(volumes, patches, strict=True)):
        if patch.pose is None:
            filled[index] = np.flip(volume, tuple(axis + len(leading) for axis in patch.flips))
    return staged.to(device, non_blocking=True)


def _joined(volumes: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Volumes (*region) of several sizes as one (volumes, *largest) on the device, zeros behind the smaller ones."""
    largest = np.max([volume.shape for volume in volumes], axis=0)
    staged = _staging((len(volumes), *largest), volumes[0].dtype, device)
    filled = staged.numpy()
    for row, volume in zip(filled, volumes, strict=True):
        inside = tuple(map(slice, volume.shape))
        if volume.shape != row.shape:
            row[...] = 0
        row[inside] = volume
    return staged.to(device, non_blocking=True)


def _staging(shape: Sequence[int], dtype: np.dtype, device: torch.device) -> Tensor:
    """Memory to fill before it goes to the device; for a GPU it is of the kind that is copied in the background."""
    empty = torch.from_numpy(np.empty(0, dtype))
    return torch.empty(tuple(shape), dtype=empty.dtype, pin_memory=device.type == "cuda")


def sampling(
    poses: np.ndarray,
    patch_size: Sequence[int],
    region_sizes: np.ndarray,
    device: torch.device,
    displacements: Sequence[np.ndarray | None] = (),
) -> Sampling:
    """Where each voxel of patches lies in regions of the same centres; what lies outside is moved to the border.

    ``poses`` (patches, ndim, ndim) map offsets from the centre of a patch to offsets from the centre of its region, in
    voxels. ``region_sizes`` (patches, ndim) are parts of regions as large as the largest along each axis.
    ``displacements`` have an entry per patch, None for those that are not deformed.
    """
    count, ndim = region_sizes.shape
    largest = region_sizes.max(axis=0).tolist()
    each = (count, *(1,) * ndim)  # a number per patch, in front of its axes

    def on_device(numbers: np.ndarray) -> Tensor:
        staged = _staging(each, np.dtype(np.float32), device)
        staged.numpy()[...] = numbers.reshape(each)
        return staged.to(device, non_blocking=True)

    steps = [  # offsets along each axis of the patch, shaped so that their sums are whole patches
        (torch.arange(length, device=device, dtype=torch.float32) - (length - 1) / 2).view(
            -1, *(1,) * (ndim - 1 - axis)
        )
        for axis, length in enumerate(patch_size)
    ]
    # patch by patch: a product of matrices may round otherwise in other company
    fields = {
        row: displacement_fields(grid, patch_size, device) for row, grid in enumerate(displacements) if grid is not None
    }
    first = torch.arange(count, dtype=torch.int32, device=device).view(each).expand(count, *patch_size)
    strides: list[int] = []
    weights = []
    for axis, length in enumerate(largest):
        last = on_device(region_sizes[:, axis] - 1)
        place = last / 2
        for other in reversed(range(ndim)):  # the sum grows to whole patches at the end only
            place = place + steps[other] * on_device(poses[:, axis, other])
        for row, field in fields.items():
            place[row] += field[axis]
        place = torch.minimum(place.clamp_(min=0), last, out=place)
        lower = place.int()  # rounds down: no place is below 0
        lower = torch.minimum(lower, (last - 1).clamp_(min=0).int(), out=lower)
        weights.append(place.sub_(lower).flatten())
        first = torch.add(lower, first, alpha=length)
        strides = [stride * length for stride in strides] + [1 if length > 1 else 0]  # a single slice: no neighbour
    offsets = tuple(
        sum(stride * upper for stride, upper in zip(strides, corner, strict=True))
        for corner in product((0, 1), repeat=ndim)
    )
    return Sampling(first=first.flatten(), offsets=offsets, weights=tuple(weights))


def interpolate(regions: Tensor, where: Sampling) -> Tensor:
    """Linear interpolation of regions (patches, *region): (voxels of the patches)."""
    flat = regions.flatten()

    def between(axis: int, number: int) -> Tensor:
        """Interpolated along ``axis`` and those after it; ``number`` tells the corner along those before it."""
        if axis == len(where.weights):
            return where.corner(flat, number)
        low, high = between(axis + 1, 2 * number), between(axis + 1, 2 * number + 1)
        return low.lerp_(high, where.weights[axis])

    return between(0, 0)  # depth first: few values are held at a time


def elect(label: Tensor, where: Sampling) -> Tensor:
    """The label with the largest share in the linear interpolation; of equal ones the lowest.

    ``label`` (patches, *region) holds indices, the result (voxels of the patches) too. Where all corners have one label
    nothing needs to be counted: on a CPU only the others are, few as they are. (On a GPU all are: to find out how many
    there are would wait for the device.)
    """
    flat = label.flatten()
    if label.device.type != "cpu":
        corners = torch.stack([where.corner(flat, number) for number in range(len(where.offsets))])
        return _winner(corners, _shares(where.weights))
    borders = torch.from_numpy(_borders(label.numpy()))
    mixed = torch.from_numpy(np.flatnonzero(borders.index_select(0, where.first).numpy()))
    there = Sampling(
        first=where.first.index_select(0, mixed),
        offsets=where.offsets,
        weights=tuple(weight.index_select(0, mixed) for weight in where.weights),
    )
    corners = torch.stack([there.corner(flat, number) for number in range(len(where.offsets))])
    return where.corner(flat, 0).index_copy_(0, mixed, _winner_of_few(corners, _shares(there.weights)))


def _borders(label: np.ndarray) -> np.ndarray:
    """At which voxels of flattened label maps not all of the 2^ndim corners that begin there have one label."""
    lowest = highest = label.reshape(-1)
    stride = 1
    for length in reversed(label.shape[1:]):
        if length > 1:  # behind the last voxel of a line the next begins, but no corners begin at the last
            lowest = np.minimum(lowest[:-stride], lowest[stride:])
            highest = np.maximum(highest[:-stride], highest[stride:])
        stride *= length
    borders = np.zeros(label.size, dtype=bool)
    np.not_equal(lowest, highest, out=borders[: len(lowest)])
    return borders


def _shares(weights: Sequence[Tensor]) -> Tensor:
    """What each corner counts (2^ndim, voxels), from the weights per axis."""
    shares = torch.ones_like(weights[0])[None]
    for weight in weights:  # doubles the list: lower and upper corner along one more axis
        shares = (shares[:, None] * torch.stack((1 - weight, weight))).flatten(0, 1)
    return shares


def _winner(corners: Tensor, shares: Tensor) -> Tensor:
    """The label of the largest share for each voxel, from the labels and shares of its corners (2^ndim, voxels)."""
    totals = torch.stack([((corners == label) * shares).sum(dim=0) for label in corners])
    losing = totals < totals.amax(dim=0)
    return corners.masked_fill(losing, torch.iinfo(corners.dtype).max).amin(dim=0)


def _winner_of_few(corners: Tensor, shares: Tensor) -> Tensor:
    """The same label by label, on a CPU: few occur, but which would have to be asked of a GPU."""
    labels, parts = corners.numpy(), shares.numpy()
    winner, best = corners[0].clone(), torch.full(corners.shape[1:], -1.0)
    for label in np.flatnonzero(np.bincount(labels.reshape(-1))).tolist():
        # compared and multiplied by numpy, a few times faster with truth values; added by torch, as for a GPU
        total = torch.from_numpy((labels == label) * parts).sum(dim=0)
        winner.masked_fill_(total > best, label)
        best = torch.maximum(best, total)
    return winner

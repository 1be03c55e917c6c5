"""Slide a window over a preprocessed case and blend the overlapping predictions.

Tensors in, tensors out: knows nothing of files, spacings or labels. Window step 1/2, Gaussian width 1/8 of the window
and the mean over all flips follow nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021).

The windows form a grid and the Gaussian is a product of one curve per axis, so the sum of all weights at a voxel is
such a product too. Weights are therefore divided by their sum axis by axis and beforehand: at every voxel they add up
to one, no volume of summed weights is kept, and a voxel that one window alone sees gets exactly what that window says.

Windows are visited along the first axis. Slices that no later window touches are handed on at once, so that of the
blended logits, which are many times the image, only a band of the depth of a window is ever in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from nnlite.data.progress import Progress, silent
from nnlite.preprocessing.resample import winner

WINDOW_STEP = 0.5  # windows overlap by half, so that each voxel lies near the centre of some window
SIGMA_PER_WINDOW = 1 / 8  # at 4 sigma from its centre, its border, a window counts 0.03 % of its centre
FREE_MEMORY_SHARE = 0.5  # what the blended logits may take of a GPU's free memory; the rest is for the network
BATCH_LOGITS = 2**26  # 256 MiB of float32: a batch of windows that says more is no faster than its windows one by one
PART_LOGITS = 2**22  # 16 MiB of float32: what is flipped back at once

Network = Callable[[Tensor], Tensor]
"""Anything that turns a batch (n, channels, *window) into logits (n, labels, *window)."""

Compare = Callable[[Sequence[Tensor], Tensor], None]
"""Takes label indices (n, *window): the answer of each member, and that of all together."""


def window_starts(size: int, window: int, step: float = WINDOW_STEP) -> list[int]:
    """First voxel of each window along one axis, spread evenly so that the last window ends at the border.

    ``step`` is the largest distance between neighbours as a share of the window (at least one voxel).

    >>> window_starts(size=100, window=64)
    [0, 18, 36]
    """
    if window > size:
        raise ValueError(f"window of {window} voxels is longer than the axis of {size}; pad the case first")
    if not 0 < step <= 1:
        raise ValueError(f"step {step} leaves gaps or never ends; choose a share of the window, above 0 and at most 1")
    gaps = ceil((size - window) / max(window * step, 1))
    return [round(i * (size - window) / gaps) for i in range(gaps + 1)] if gaps else [0]


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


@torch.inference_mode()
def predict_slabs(
    network: Network,
    image: Tensor,
    *,
    patch_size: Sequence[int],
    labels: int,
    device: torch.device | str,
    mirror_axes: Sequence[int] = (),
    step: float = WINDOW_STEP,
    window_batch: int = 1,
    autocast_dtype: torch.dtype | None = None,
    compare: Compare | None = None,
    progress: Progress = silent,
) -> Iterator[Tensor]:
    """Logits of a whole case, from a network that sees windows of ``patch_size``, a few slices after the other.

    ``image`` is (channels, z, y, x); each slab (labels, slices, y, x) float32 goes on where the last one ended. It is a
    view that holds until the next slab is asked for. A patch of two axes (y, x) means a 2D network: its windows are
    slices. ``mirror_axes`` count the axes of the patch; the result is the mean over every combination of their flips.
    ``compare`` is told what each of these says of a window. An image smaller than the patch is padded with 0 on both
    sides. Slabs lie on ``device``, or in main memory when a GPU has no room for the band they are blended in.
    """
    device = torch.device(device)
    window = (1,) * (3 - len(patch_size)) + tuple(patch_size)
    padded, inside = _padded(image, window)
    size = tuple(padded.shape[1:])
    starts = [window_starts(n, w, step) for n, w in zip(size, window, strict=True)]
    window_batch = max(1, min(window_batch, BATCH_LOGITS // (labels * prod(window))))
    rows = _rows(starts, window_batch)
    depth = max(starts[0][row[-1]] + window[0] - starts[0][row[0]] for row in rows)
    home = blending_device(labels * depth * prod(size[1:]), device)
    padded = padded.to(home, torch.float32)
    band = torch.zeros((labels, depth, *size[1:]), device=home)

    def answer(windows: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            return _window_logits(network, windows.to(device), patch_size, labels, mirror_axes, compare).to(home)

    for slab in _blended(answer, padded, window, starts, rows, band, window_batch, progress):
        yield slab[(slice(None), *inside)]  # where there is padding along z there is one slab alone


def predict_logits(network: Network, image: Tensor, **options: Any) -> Tensor:
    """All slabs of ``predict_slabs`` together: (labels, z, y, x) of the whole case, for which memory has to suffice."""
    return torch.cat([slab.clone() for slab in predict_slabs(network, image, **options)], dim=1)


def mirrored_mean(network: Network, batch: Tensor, axes: Sequence[int], compare: Compare | None = None) -> Tensor:
    """Mean float32 output over all flips of ``axes`` (0 = first axis after the channels), each flipped back."""
    dims = [axis + 2 for axis in axes]
    flips = [flip for count in range(1, len(dims) + 1) for flip in combinations(dims, count)]
    if not flips:
        return network(batch).float()
    total = network(batch).to(torch.float32, copy=True)  # the network may have answered with what it was given
    answers = [winning(total)] if compare else []
    for flip in flips:
        logits = network(batch.flip(flip))
        _add_flipped(total, logits, flip)
        if compare:
            answers.append(winning(logits).flip([dim - 1 for dim in flip]))
        del logits  # before the network needs room for the next
    if compare:
        compare(answers, winning(total))
    return total.div_(len(flips) + 1)


def winning(logits: Tensor) -> Tensor:
    """Label indices (n, *window) of the highest of logits (n, labels, *window), int16; ten times as fast as argmax."""
    return winner(enumerate(logits.unbind(dim=1)))


def blending_device(elements: int, device: torch.device) -> torch.device:
    """Where so many float32 logits are blended: on ``device``, unless they would crowd the memory of a GPU."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if elements * 4 <= free * FREE_MEMORY_SHARE else torch.device("cpu")


def _blended(
    answer: Network,
    image: Tensor,
    window: Sequence[int],
    starts: Sequence[Sequence[int]],
    rows: Sequence[Sequence[int]],
    band: Tensor,
    window_batch: int,
    progress: Progress,
) -> Iterator[Tensor]:
    """Weighted sums of what ``answer`` says about the windows: the slices of ``band`` that are finished, row by row."""
    size = image.shape[1:]
    weights = [blending_weights(n, w, s).to(band.device) for n, w, s in zip(size, window, starts, strict=True)]
    done, count = 0, prod(map(len, starts))
    for row, next_row in zip(rows, [*rows[1:], None], strict=True):
        top = starts[0][row[0]]
        bottom = size[0] if next_row is None else starts[0][next_row[0]]  # no later window touches what lies above
        grid = list(product(row, range(len(starts[1])), range(len(starts[2]))))  # windows by their number along z, y, x
        for first in range(0, len(grid), window_batch):
            numbers = grid[first : first + window_batch]
            corners = [[axis[i] for axis, i in zip(starts, number, strict=True)] for number in numbers]
            answers = answer(torch.stack([image[_region(corner, window)] for corner in corners]))
            for (z, y, x), corner, logits in zip(numbers, corners, answers, strict=True):
                weight = weights[0][z][:, None, None] * weights[1][y][:, None] * weights[2][x]
                band[_region((corner[0] - top, *corner[1:]), window)].addcmul_(logits, weight)
            del answers, logits  # before the network needs room for the next
            done += len(numbers)
            progress("windows", done, count)
        yield band[:, : bottom - top]
        if next_row is not None:
            _advance(band, bottom - top, starts[0][row[-1]] + window[0] - bottom)


def _rows(starts: Sequence[Sequence[int]], window_batch: int) -> list[range]:
    """Numbers along z of the windows that are blended together: those of one depth, or of more until a batch is full.

    >>> _rows([[0, 4, 8], [0, 2], [0]], window_batch=4)
    [range(0, 2), range(2, 3)]
    """
    depths, together = len(starts[0]), ceil(window_batch / (len(starts[1]) * len(starts[2])))
    return [range(first, min(first + together, depths)) for first in range(0, depths, together)]


def _advance(band: Tensor, finished: int, begun: int) -> None:
    """Move the slices that windows have ``begun``, and more will touch, to the front, and clear the others."""
    for volume in band:  # one label after another: what overlaps is copied twice
        volume[:begun] = volume[finished : finished + begun].clone()
        volume[begun:] = 0


def _add_flipped(total: Tensor, logits: Tensor, flip: tuple[int, ...]) -> None:
    """Add ``logits``, flipped back, a few labels at a time: flipping makes a copy, and so does float32."""
    labels = max(1, PART_LOGITS * total.shape[1] // total.numel())
    for part, more in zip(total.split(labels, dim=1), logits.split(labels, dim=1), strict=True):
        part += more.flip(flip)


def _window_logits(
    network: Network,
    batch: Tensor,
    patch_size: Sequence[int],
    labels: int,
    mirror_axes: Sequence[int],
    compare: Compare | None,
) -> Tensor:
    """Logits (n, labels, z, y, x) of windows (n, channels, z, y, x), through a network of as many axes as the patch."""
    flat = len(patch_size) == 2
    logits = mirrored_mean(network, batch.squeeze(2) if flat else batch, mirror_axes, compare)
    expected = (len(batch), labels, *patch_size)
    if tuple(logits.shape) != expected:
        raise ValueError(f"the network answers with shape {tuple(logits.shape)} where {expected} is needed")
    return logits.unsqueeze(2) if flat else logits


def _padded(image: Tensor, window: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """The image with 0 around it where it is smaller than the window, and where the image lies in that."""
    before = [max(w - n, 0) // 2 for n, w in zip(image.shape[1:], window, strict=True)]
    after = [max(w - n, 0) - b for n, w, b in zip(image.shape[1:], window, before, strict=True)]
    inside = tuple(slice(b, b + n) for n, b in zip(image.shape[1:], before, strict=True))
    if not any(after):
        return image, inside
    return pad(image, [voxels for sides in zip(before[::-1], after[::-1], strict=True) for voxels in sides]), inside


def _region(corner: Sequence[int], window: Sequence[int]) -> tuple[slice, ...]:
    """All channels of the voxels of one window, given by its first voxel along each axis."""
    return (slice(None), *(slice(first, first + w) for first, w in zip(corner, window, strict=True)))

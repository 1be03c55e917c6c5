"""Slide a window over a preprocessed case and blend the overlapping predictions.

Tensors in, tensors out: knows nothing of files, spacings or labels. Window step 1/2, Gaussian width 1/8 of the window
and the mean over all flips follow nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021).

The windows form a grid and the Gaussian is a product of one curve per axis, so the sum of all weights at a voxel is
such a product too. Weights are therefore divided by their sum axis by axis and beforehand: at every voxel they add up
to one, no volume of summed weights is kept, and a voxel that one window alone sees gets exactly what that window says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from math import ceil, prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from nnlite.data.progress import Progress, silent

WINDOW_STEP = 0.5  # windows overlap by half, so that each voxel lies near the centre of some window
SIGMA_PER_WINDOW = 1 / 8  # at 4 sigma from its centre, its border, a window counts 0.03 % of its centre
FREE_MEMORY_SHARE = 0.5  # what the blended logits may take of a GPU's free memory; the rest is for the network

Network = Callable[[Tensor], Tensor]
"""Anything that turns a batch (n, channels, *window) into logits (n, labels, *window)."""


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
def predict_logits(
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
    progress: Progress = silent,
) -> Tensor:
    """Logits (labels, z, y, x) float32 of a whole case, from a network that sees windows of ``patch_size``.

    ``image`` is (channels, z, y, x). A patch of two axes (y, x) means a 2D network: its windows are slices.
    ``mirror_axes`` count the axes of the patch; the result is the mean over every combination of their flips.
    An image smaller than the patch is padded with 0 on both sides. The result lies on ``device``, or in main memory
    when a GPU has no room for it.
    """
    device = torch.device(device)
    window = (1,) * (3 - len(patch_size)) + tuple(patch_size)
    padded, inside = _padded(image, window)
    size = tuple(padded.shape[1:])
    home = blending_device(labels * prod(size), device)
    padded = padded.to(home, torch.float32)

    def answer(windows: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            return _window_logits(network, windows.to(device), patch_size, labels, mirror_axes).to(home)

    if size == window:  # nothing to blend: exactly what the network says
        logits = answer(padded[None])[0]
        progress("windows", 1, 1)
    else:
        starts = [window_starts(n, w, step) for n, w in zip(size, window, strict=True)]
        logits = _blended(answer, padded, window, starts, labels, window_batch, progress)
    return logits[(slice(None), *inside)]


def mirrored_mean(network: Network, batch: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean float32 output over all flips of ``axes`` (0 = first axis after the channels), each flipped back."""
    dims = [axis + 2 for axis in axes]
    flips = [flip for count in range(1, len(dims) + 1) for flip in combinations(dims, count)]
    total = network(batch).float()
    for flip in flips:
        total = total + network(batch.flip(flip)).float().flip(flip)
    return total / (len(flips) + 1)


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
    labels: int,
    window_batch: int,
    progress: Progress,
) -> Tensor:
    """Weighted sum (labels, z, y, x) of what ``answer`` says about every window, beside the image in memory."""
    size = image.shape[1:]
    weights = [blending_weights(n, w, s).to(image.device) for n, w, s in zip(size, window, starts, strict=True)]
    total = torch.zeros((labels, *size), device=image.device)
    grid = list(product(*(range(len(axis)) for axis in starts)))  # each window by its number along z, y and x
    for first in range(0, len(grid), window_batch):
        numbers = grid[first : first + window_batch]
        regions = [_region(starts, window, number) for number in numbers]
        logits = answer(torch.stack([image[region] for region in regions]))
        for region, (z, y, x), window_logits in zip(regions, numbers, logits, strict=True):
            weight = weights[0][z][:, None, None] * weights[1][y][:, None] * weights[2][x]
            total[region].addcmul_(window_logits, weight)
        progress("windows", first + len(numbers), len(grid))
    return total


def _window_logits(
    network: Network, batch: Tensor, patch_size: Sequence[int], labels: int, mirror_axes: Sequence[int]
) -> Tensor:
    """Logits (n, labels, z, y, x) of windows (n, channels, z, y, x), through a network of as many axes as the patch."""
    flat = len(patch_size) == 2
    logits = mirrored_mean(network, batch.squeeze(2) if flat else batch, mirror_axes)
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


def _region(starts: Sequence[Sequence[int]], window: Sequence[int], number: Sequence[int]) -> tuple[slice, ...]:
    """All channels of the voxels of one window, given by its number along each axis."""
    firsts = [axis[i] for axis, i in zip(starts, number, strict=True)]
    return (slice(None), *(slice(first, first + w) for first, w in zip(firsts, window, strict=True)))

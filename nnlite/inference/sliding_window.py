"""Slide a window over a preprocessed case and blend the overlapping predictions.

Tensors in, tensors out: knows nothing of files, spacings or labels. Window step 1/2 and the mean over all flips follow
nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021); ``blending`` joins what overlaps.

Windows are visited along the first axis. Slices that no later window touches are handed on at once, so that of the
blended logits, which are many times the image, only a band of the depth of a window is ever in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from math import ceil, prod
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from nnlite.data.progress import Progress, silent
from nnlite.inference.blending import Band, BandMaker, GaussianBand, WindowGrid
from nnlite.inference.overlap_tiles import OverlapTiles
from nnlite.planning.mirroring import Exchange
from nnlite.preprocessing.side_by_side import OrderedMap, side_by_side

WINDOW_STEP = 0.5  # windows overlap by half, so that each voxel lies near the centre of some window
FREE_MEMORY_SHARE = 0.5  # what the blended logits may take of a GPU's free memory; the rest is for the network
BATCH_LOGITS = 2**26  # 256 MiB of float32: a batch of windows that says more is no faster than its windows one by one
FLIPS_TOGETHER = 2  # what a GPU is given at a time of a window and its mirror images, where the batch has room for it
PART_LOGITS = 2**22  # 16 MiB of float32: what is flipped back at once

Network = Callable[[Tensor], Tensor]
"""Anything that turns a batch (n, channels, *window) into logits (n, labels, *window)."""
Surround = Callable[[Tensor, Sequence[int], Sequence[int]], Tensor]
"""Puts so many voxels before and behind an image (channels, z, y, x), one number per axis."""


class Comparison(Protocol):
    """Is told what each member says, and what all of them say together."""

    def answer(self, logits: Tensor) -> Tensor:
        """Label indices (n, *window) of logits (n, channels, *window), or of their sum over members."""

    def add(self, answers: Sequence[Tensor], together: Tensor) -> None:
        """Count the answers of the members and that of all together."""


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
    # the distance comes first, as in nnU-Net: where a window would start half-way between voxels, rounding decides
    return [round((size - window) / gaps * i) for i in range(gaps + 1)] if gaps else [0]


def zeros_around(image: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """The image with 0 around it: a ``Surround``."""
    return pad(image, [voxels for sides in zip(before[::-1], after[::-1], strict=True) for voxels in sides])


@torch.inference_mode()
def predict_slabs(
    network: Network,
    image: Tensor,
    *,
    patch_size: Sequence[int],
    labels: int,
    device: torch.device | str,
    mirror_axes: Sequence[int] = (),
    exchange: Exchange | None = None,
    step: float = WINDOW_STEP,
    window_batch: int = 1,
    threads: int = 1,
    autocast_dtype: torch.dtype | None = None,
    band: BandMaker = GaussianBand,
    tiles: OverlapTiles | None = None,
    surround: Surround = zeros_around,
    compare: Comparison | None = None,
    progress: Progress = silent,
) -> Iterator[Tensor]:
    """Logits of a whole case, from a network that sees windows of ``patch_size``, a few slices after the other.

    ``image`` is (channels, z, y, x); each slab (labels, slices, y, x) goes on where the last one ended. It is a view
    that holds until the next slab is asked for; float32, unless the ``band`` blends in another precision. A patch of
    two axes (y, x) means a 2D network: its windows are slices. ``mirror_axes`` count the axes of the patch; the result
    is the mean over every combination of their flips, and ``compare`` is told what each of these says of a window.
    ``exchange`` tells which labels change places in a window that is flipped. The network sees up to ``window_batch``
    windows at once; with several ``threads`` these ask it side by side. An image smaller than the patch is made as
    large by ``surround``, on both sides. Slabs lie on ``device``, or in main memory when a GPU has no room for the band
    they are blended in.

    ``tiles`` are for networks without padding: ``patch_size`` is then what they answer for, ``step`` does not matter,
    and the image is continued by mirroring it.
    """
    device = torch.device(device)
    window = (1,) * (3 - len(patch_size)) + tuple(patch_size)
    padded, grid, (z, y, x) = _windows(image, window, step, surround) if tiles is None else tiles.lay(image, window)
    seen = grid if tiles is None else tiles.seen(grid)
    starts, size = grid.starts, grid.size
    most = max(1, BATCH_LOGITS // (labels * prod(window)))
    window_batch, threads = min(window_batch, most), min(threads, most)
    together = max(window_batch, threads)
    rows = _rows(starts, together)
    depth = max(starts[0][row[-1]] + window[0] - starts[0][row[0]] for row in rows)
    home = blending_device(labels * depth * prod(size[1:]), device)
    padded = padded.to(home, torch.float32)

    flat = len(patch_size) == 2
    checked = _checked(network, (labels, *patch_size), device, autocast_dtype)

    with side_by_side(threads) as ordered_map:

        def answer(windows: Tensor) -> Tensor:
            logits = mirrored_mean(
                checked,
                (windows.squeeze(2) if flat else windows).to(device),
                mirror_axes,
                at_once=window_batch,
                exchange=exchange,
                compare=compare,
                ordered_map=ordered_map,
            )
            return (logits.unsqueeze(2) if flat else logits).to(home)

        blended = band(grid, labels=labels, depth=depth, device=home)
        top = 0
        for slab in _blended(answer, padded, seen, blended, rows, together, progress):
            slices = slice(max(z.start - top, 0), z.stop - top)
            top += slab.shape[1]
            yield slab[:, slices, y, x]


def predict_logits(network: Network, image: Tensor, **options: Any) -> Tensor:
    """All slabs of ``predict_slabs`` together: (labels, z, y, x) of the whole case, for which memory has to suffice."""
    return torch.cat([slab.clone() for slab in predict_slabs(network, image, **options)], dim=1)


def _checked(
    network: Network, expected: tuple[int, ...], device: torch.device, autocast_dtype: torch.dtype | None
) -> Network:
    """The network in inference mode and in this precision, in whatever thread it is asked; answers are looked at."""

    @torch.inference_mode()
    def answer(windows: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            logits = network(windows)
        if logits.shape != (len(windows), *expected):
            wanted = (len(windows), *expected)
            raise ValueError(f"the network answers with shape {tuple(logits.shape)} where {wanted} is needed")
        return logits

    return answer


def mirrored_mean(
    network: Network,
    batch: Tensor,
    axes: Sequence[int],
    *,
    at_once: int = 1,
    exchange: Exchange | None = None,
    compare: Comparison | None = None,
    ordered_map: OrderedMap = map,
) -> Tensor:
    """Mean float32 output over all flips of ``axes`` (0 = first axis after the channels), each flipped back.

    The network sees at most ``at_once`` windows at a time; ``ordered_map`` asks it. Labels that change places by
    ``exchange`` are changed back as well. ``compare`` is told what each flip says, where there are any.
    """
    dims = [axis + 2 for axis in axes]
    flips = [flip for count in range(len(dims) + 1) for flip in combinations(dims, count)]
    windows = batch.split(at_once)
    together = max(1, min(FLIPS_TOGETHER, at_once // len(windows[0])))
    groups = [flips[first : first + together] for first in range(0, len(flips), together)]

    def ask(question: tuple[Tensor, Sequence[tuple[int, ...]]]) -> Tensor:
        part, group = question
        flipped = [_mirrored(part, flip, exchange) for flip in group]
        return network(flipped[0] if len(group) == 1 else torch.cat(flipped))

    answers = ordered_map(ask, product(windows, groups))
    means = [_mean_of_flips(answers, groups, exchange, compare) for _ in windows]
    return means[0] if len(means) == 1 else torch.cat(means)


def _mean_of_flips(
    answers: Iterator[Tensor],
    groups: Sequence[Sequence[tuple[int, ...]]],
    exchange: Exchange | None,
    compare: Comparison | None,
) -> Tensor:
    """Mean of the answers to the groups of flips of the same windows; the first group begins with no flip at all."""
    total: Tensor | None = None
    members = []
    for group in groups:
        together = next(answers)
        for flip, logits in zip(group, together.chunk(len(group)), strict=True):
            if exchange is not None and exchange.axis + 2 in flip:
                _swap(logits, exchange.channels)
            if total is None:
                total = logits.to(torch.float32, copy=True)  # the network may have answered with what it was given
            else:
                _add_flipped(total, logits, flip)
            if compare and sum(map(len, groups)) > 1:
                members.append(compare.answer(logits).flip([dim - 1 for dim in flip]))
        del together, logits  # before the network needs room for the next
    assert total is not None
    if compare and members:
        compare.add(members, compare.answer(total))
    return total.div_(sum(map(len, groups)))


def blending_device(elements: int, device: torch.device) -> torch.device:
    """Where so many float32 logits are blended: on ``device``, unless they would crowd the memory of a GPU."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if elements * 4 <= free * FREE_MEMORY_SHARE else torch.device("cpu")


def _blended(
    answer: Network,
    image: Tensor,
    seen: WindowGrid,
    band: Band,
    rows: Sequence[Sequence[int]],
    window_batch: int,
    progress: Progress,
) -> Iterator[Tensor]:
    """Blend what ``answer`` says about the windows: the slices of ``band`` that are finished, row by row.

    What is ``seen`` for each of them may be more than its window.
    """
    grid = band.grid
    done, count = 0, prod(map(len, grid.starts))
    for row, next_row in zip(rows, [*rows[1:], None], strict=True):
        # no later window touches what lies above
        bottom = grid.size[0] if next_row is None else grid.starts[0][next_row[0]]
        windows = list(product(row, range(len(grid.starts[1])), range(len(grid.starts[2]))))
        for first in range(0, len(windows), window_batch):
            numbers = windows[first : first + window_batch]
            answers = answer(torch.stack([image[seen.region(number)] for number in numbers]))
            for number, logits in zip(numbers, answers, strict=True):
                band.add(number, logits)
            del answers, logits  # before the network needs room for the next
            done += len(numbers)
            progress("windows", done, count)
        finished = bottom - band.top
        yield band.finished(finished)
        if next_row is not None:
            band.move_on(finished, grid.starts[0][row[-1]] + grid.window[0] - bottom)


def _rows(starts: Sequence[Sequence[int]], window_batch: int) -> list[range]:
    """Numbers along z of the windows that are blended together: those of one depth, or of more until a batch is full.

    >>> _rows([[0, 4, 8], [0, 2], [0]], window_batch=4)
    [range(0, 2), range(2, 3)]
    """
    depths, together = len(starts[0]), ceil(window_batch / (len(starts[1]) * len(starts[2])))
    return [range(first, min(first + together, depths)) for first in range(0, depths, together)]


def _mirrored(batch: Tensor, flip: tuple[int, ...], exchange: Exchange | None) -> Tensor:
    """A flipped copy of the windows, with the labels exchanged that a cascade's second stage sees in them."""
    flipped = batch.flip(flip)
    if exchange is not None and exchange.previous is not None and exchange.axis + 2 in flip:
        indices = torch.tensor(exchange.previous, dtype=batch.dtype, device=batch.device)
        flipped[:, -1] = indices[flipped[:, -1].long()]
    return flipped


def _swap(logits: Tensor, pairs: Sequence[tuple[int, int]]) -> None:
    """Let channels change places where they are: only one of a pair is copied."""
    for one, other in pairs:
        kept = logits[:, one].clone()
        logits[:, one] = logits[:, other]
        logits[:, other] = kept


def _add_flipped(total: Tensor, logits: Tensor, flip: tuple[int, ...]) -> None:
    """Add ``logits``, flipped back, a few labels at a time: flipping makes a copy, and so does float32."""
    labels = max(1, PART_LOGITS * total.shape[1] // total.numel())
    for part, more in zip(total.split(labels, dim=1), logits.split(labels, dim=1), strict=True):
        part += more.flip(flip)


def _windows(
    image: Tensor, window: tuple[int, ...], step: float, surround: Surround
) -> tuple[Tensor, WindowGrid, tuple[slice, slice, slice]]:
    """The image, surrounded where it is smaller than a window, its windows, and where the image lies in that."""
    before = [max(w - n, 0) // 2 for n, w in zip(image.shape[1:], window, strict=True)]
    after = [max(w - n, 0) - b for n, w, b in zip(image.shape[1:], window, before, strict=True)]
    z, y, x = (slice(b, b + n) for n, b in zip(image.shape[1:], before, strict=True))
    if any(after):
        image = surround(image, before, after)
    size = tuple(image.shape[1:])
    starts = tuple(tuple(window_starts(n, w, step)) for n, w in zip(size, window, strict=True))
    return image, WindowGrid(size=size, window=window, starts=starts), (z, y, x)

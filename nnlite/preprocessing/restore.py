"""Bring what the network says about a case back to the image's own grid: slab by slab and class by class.

The network's answer arrives as a stream of slabs on the grid it works on. Linear interpolation needs one neighbouring
slice, so a slab of the image is finished as soon as the slices around it have come, and what later slabs need of them
is kept. Neither a volume of logits nor one of probabilities ever exists; the mask is filled in from top to bottom. On
a CPU each of its cores works on a slab of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import Restoration
from nnlite.preprocessing.resample import Slab, slabs
from nnlite.preprocessing.side_by_side import side_by_side

STACKED_SCORES = 2**22  # 16 MiB of float32: scores held at once where all labels of a slab are needed together

Logits = Tensor | Iterable[Tensor]
"""A volume of logits (labels, z, y, x) on the network's grid, or its slabs along z in order.

A slab need not outlive the moment at which the next one is asked for.
"""

Piece = tuple[int, Tensor]
"""Slices of logits (labels, z, y, x) that follow each other, and the number of the first."""

Region = tuple[slice, slice, slice]
"""A box of voxels in the image's own axis order (z, y, x)."""

KeepProbabilities = Callable[[Region, np.ndarray], None]
"""Takes the float32 probabilities (channels, z, y, x) of a box. Where no box comes, nothing is there for certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredSlab:
    """Neighbouring slices of the box that preprocessing cropped to, in the axis order of the plan.

    ``target`` counts slices of the box. ``source`` holds the slices of logits (labels, z, y, x) they are made from, in
    one piece or more; it is only good until the next slabs are asked for.
    """

    target: slice
    source: tuple[Tensor, ...]
    slab: Slab

    def scores(self) -> Iterator[tuple[int, Tensor]]:
        """Index and interpolated logits (z, y, x) of each label, float32, made when asked for.

        Rounded to the precision of ``source``: whoever blends in half precision lets rounding make ties.
        """
        for index in range(self.source[0].shape[0]):
            parts = [piece[index] for piece in self.source]
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            yield index, self.slab.resample(whole).to(whole.dtype).float()

    def stacked(self) -> Tensor:
        """Interpolated logits (labels, z, y, x) of all labels."""
        return torch.stack([score for _, score in self.scores()])


def restored_slabs(logits: Logits, restoration: Restoration, *, stacked: bool = False) -> Iterator[list[RestoredSlab]]:
    """The slabs of the box that preprocessing cropped to: as many at a time as need no more of ``logits`` than came.

    Slabs to be ``stacked`` have fewer slices the more labels there are. Slabs of one box and of as many labels are cut
    alike, whatever grid the logits lie on.
    """
    stream = _checked(logits, restoration)
    first = next(stream)
    pieces, end = [(0, first)], first.shape[1]  # what may still be needed, with the number of its first slice
    ready: list[RestoredSlab] = []
    for slab in slabs(
        restoration.resampled_shape,
        restoration.cropped_shape,
        separate_axis=restoration.separate_axis,
        device=first.device,
        voxels=max(1, STACKED_SCORES // first.shape[0]) if stacked else None,
    ):
        while end < slab.source.stop:
            if ready:
                yield ready
                ready = []
            needed = _within(pieces, slice(slab.source.start, end))
            pieces = [(begin, piece.clone()) for begin, piece in needed]  # the last slab is about to be overwritten
            pieces.append((end, next(stream)))
            end += pieces[-1][1].shape[1]
        source = tuple(piece for _, piece in _within(pieces, slab.source))
        ready.append(RestoredSlab(target=slab.target, source=source, slab=slab))
    yield ready


def restore_labels(
    logits: Logits,
    restoration: Restoration,
    *,
    decision: Decision | None = None,
    keep_probabilities: KeepProbabilities | None = None,
) -> np.ndarray:
    """Label indices (z, y, x) on the image's own grid from ``logits`` on the network's.

    Logits are interpolated linearly and the highest wins, unless another ``decision`` is given. Memory beside the
    answer is a few slices of one label per core, or of all labels where probabilities are to be kept. Outside of the
    box that preprocessing cropped to, all is background. uint8, or int16 beyond 256 labels. The border of instances,
    where the decision knows one, keeps its index.
    """
    stream = _checked(logits, restoration)
    first = next(stream)
    decision = decision or Decision(labels=first.shape[0])
    indices = background(restoration, labels=decision.labels)
    inside = restoration.inside(indices)

    @torch.inference_mode()
    def answer(slab: RestoredSlab) -> tuple[slice, np.ndarray, Tensor | None]:
        if keep_probabilities is None:
            return slab.target, decision.from_logits(slab.scores()).cpu().numpy(), None
        scores = slab.stacked()
        labels = decision.from_logits(enumerate(scores)).cpu().numpy()
        return slab.target, labels, decision.of_labels(decision.probabilities(scores))

    with side_by_side(torch.get_num_threads() if first.device.type == "cpu" else 1) as ordered_map:
        for ready in restored_slabs(chain([first], stream), restoration, stacked=keep_probabilities is not None):
            for target, labels, probabilities in ordered_map(answer, ready):
                inside[target] = labels
                if keep_probabilities is not None and probabilities is not None:
                    keep_probabilities(*on_image(probabilities, target, restoration))
    return indices


def background(restoration: Restoration, *, labels: int) -> np.ndarray:
    """A mask (z, y, x) of zeros on the image's own grid, of the smallest type that holds the indices of ``labels``."""
    return np.zeros(restoration.shape, dtype=np.uint8 if labels <= 256 else np.int16)


def on_image(volumes: Tensor, target: slice, restoration: Restoration) -> tuple[Region, np.ndarray]:
    """Where the ``target`` slices of the box lie in the image, and ``volumes`` (labels, z, y, x) in its axis order."""
    region = [slice(*ends) for ends in restoration.box]
    axis = restoration.transpose[0]
    first = restoration.box[axis][0]
    region[axis] = slice(first + target.start, first + target.stop)
    order = np.argsort(restoration.transpose)
    z, y, x = region
    return (z, y, x), volumes.cpu().numpy().transpose(0, *(axis + 1 for axis in order))


def _checked(logits: Logits, restoration: Restoration) -> Iterator[Tensor]:
    """The slabs of ``logits``; ``ValueError`` at the first that does not fit, or where they end too early."""
    depth, *plane = restoration.resampled_shape
    done = 0
    for slab in [logits] if isinstance(logits, Tensor) else logits:
        done += slab.shape[1]
        if list(slab.shape[2:]) != plane or done > depth:
            raise ValueError(
                f"logits of {restoration.case_id} have shape {(done, *slab.shape[2:])}, "
                f"its preprocessed image has {restoration.resampled_shape}"
            )
        yield slab
    if done < depth:
        raise ValueError(f"logits of {restoration.case_id} end after {done} of {depth} slices")


def _within(pieces: Sequence[Piece], wanted: slice) -> list[Piece]:
    """Views of those slices of the pieces that are wanted."""
    views = []
    for begin, piece in pieces:
        first = max(begin, wanted.start)
        part = piece[:, first - begin : max(wanted.stop - begin, 0)]
        if part.shape[1]:
            views.append((first, part))
    return views

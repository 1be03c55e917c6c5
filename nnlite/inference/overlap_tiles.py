"""Where a network without padding looks, so that its answers lie side by side and cover a whole case.

The overlap-tile strategy of U-Net (Ronneberger et al., MICCAI 2015): each tile of answers is computed from a larger one
of the image, continued by mirroring at the borders. Such a network never invents a border, so wherever its pooling
grid falls alike, tiles say exactly what it would say about the whole image at once: they begin at multiples of what it
divides by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nnlite.inference.blending import WindowGrid
from nnlite.preprocessing.mirrored_borders import extend_by_mirroring


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapTiles:
    """How a network without padding sees: so many voxels of ``margin`` on either side of what it answers for.

    ``divisor`` is the product of its strides. Both have one number per axis of the patch.
    """

    margin: tuple[int, ...]
    divisor: tuple[int, ...]

    def lay(self, image: Tensor, tile: Sequence[int]) -> tuple[Tensor, WindowGrid, tuple[slice, slice, slice]]:
        """An image (channels, z, y, x), continued; the tiles (z, y, x) of answers; and where the image lies in those.

        The tiles begin with the image and may end beyond it.
        """
        margin, divisor = self._of_volumes(self.margin, 0), self._of_volumes(self.divisor, 1)
        shape = image.shape[1:]
        starts = tuple(tuple(tile_starts(n, t, d)) for n, t, d in zip(shape, tile, divisor, strict=True))
        size = tuple(first[-1] + t for first, t in zip(starts, tile, strict=True))
        after = [whole - n + more for whole, n, more in zip(size, shape, margin, strict=True)]
        z, y, x = (slice(0, length) for length in shape)
        grid = WindowGrid(size=size, window=tuple(tile), starts=starts)
        return extend_by_mirroring(image, margin, after), grid, (z, y, x)

    def seen(self, grid: WindowGrid) -> WindowGrid:
        """What is seen for each tile, in the continued image."""
        margin = self._of_volumes(self.margin, 0)
        return WindowGrid(size=_widened(grid.size, margin), window=_widened(grid.window, margin), starts=grid.starts)

    def _of_volumes(self, numbers: tuple[int, ...], of_slices: int) -> tuple[int, ...]:
        """A number for each axis of a volume; slices are tiles of their own."""
        return (of_slices,) * (3 - len(numbers)) + numbers


def tile_starts(size: int, tile: int, divisor: int) -> list[int]:
    """First voxel of each tile along an axis: multiples of ``divisor``, as far apart as tiles without gaps can be.

    >>> tile_starts(size=1000, tile=388, divisor=16)
    [0, 384, 768]
    """
    distance = tile // divisor * divisor or tile  # a tile shorter than the grid of the pooling cannot follow it
    return list(range(0, max(1, size - tile + distance), distance))


def _widened(size: Sequence[int], margin: Sequence[int]) -> tuple[int, ...]:
    return tuple(length + 2 * more for length, more in zip(size, margin, strict=True))

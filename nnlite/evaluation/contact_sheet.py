"""Many small pictures on one page, each with its title: to compare what was done to one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnlite.data.records import written_whole
from nnlite.evaluation.overlay import BACKGROUND, GAP_PX, INK, tinted

if TYPE_CHECKING:
    from PIL import Image as Pictures

TILE_PX = 120  # longest side of a picture
TITLE_PX = 10
COLOURS = 20  # greys and a few tints: a page stays small
WINDOW = (0.5, 99.5)  # percent of the first picture's pixels between black and white


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A picture (rows, columns), the label indices (rows, columns) to tint it with, and its title."""

    title: str
    image: np.ndarray
    label: np.ndarray


def contact_sheet(groups: Sequence[Sequence[Tile]], *, columns: int, proportion: float = 1.0) -> Pictures.Image:
    """A new row for each group, all in the greys of the first tile; pixels are ``proportion`` times as high as wide."""
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    rows, wide = groups[0][0].image.shape
    scale = TILE_PX / max(rows * proportion, wide)
    size = max(1, round(wide * scale)), max(1, round(rows * proportion * scale))
    low, high = np.percentile(groups[0][0].image, WINDOW).tolist()
    step = (size[0] + GAP_PX, size[1] + GAP_PX + 2 * TITLE_PX)
    lines = [group[first : first + columns] for group in groups for first in range(0, len(group), columns)]
    sheet = Pictures.new("RGB", (columns * step[0] + GAP_PX, len(lines) * step[1] + GAP_PX), BACKGROUND)
    font = ImageFont.load_default(size=TITLE_PX)
    for (line, column), tile in _places(lines):
        left, upper = GAP_PX + column * step[0], GAP_PX + line * step[1]
        shares = (tile.image - low) / max(high - low, 1e-12)
        grey = Pictures.fromarray(np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)).convert("RGB")
        area = Pictures.fromarray(tile.label.astype(np.int32)).resize(size, Pictures.Resampling.NEAREST)
        grey = grey.resize(size, Pictures.Resampling.BICUBIC)
        sheet.paste(Pictures.fromarray(tinted(np.asarray(grey), np.asarray(area))), (left, upper))
        ImageDraw.Draw(sheet).text((left, upper + size[1] + 2), tile.title, fill=INK, font=font)
    return sheet


def _places(lines: Sequence[Sequence[Tile]]) -> Iterator[tuple[tuple[int, int], Tile]]:
    for line, tiles in enumerate(lines):
        for column, tile in enumerate(tiles):
            yield (line, column), tile


def write_sheet(path: Path, sheet: Pictures.Image) -> None:
    """Write a sheet as a small PNG; the file appears whole."""
    with written_whole(path) as beside:
        sheet.quantize(COLOURS).save(beside, format="PNG", optimize=True)

"""A picture of a mask on its image, to see at a glance whether a prediction can be right: ``CASE.preview.png``.

Volumes show the three orthogonal slices with most foreground as radiologists are used to them (the patient's right is
on the left), in the proportions of the patient; 2D images show themselves. Areas are tinted and outlined in the colours
of the report; a legend names the labels that the mask holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlite.data.image import Image
from nnlite.data.labels import Labels
from nnlite.data.records import written_whole
from nnlite.evaluation.palette import label_colour

if TYPE_CHECKING:
    from PIL import Image as Pictures

PANEL_PX = 360  # longest side of a slice of a volume: three fit beside each other on a screen
PLANAR_PX = 720  # of a 2D image, which stands alone
GAP_PX = 10
TEXT_PX = 13
OPACITY = 0.35  # of an area: what it covers can still be judged
OUTLINE_PX = 2
WINDOW = (0.5, 99.5)  # percent of the image's voxels between black and white, where no window is given
MOST_NAMED = 24  # labels in a legend; a mask of a whole body holds a hundred
BACKGROUND, INK = (17, 20, 23), (229, 233, 236)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """How a slice lies on the screen: axes of the volume (z, y, x) and the sides of the patient at its edges."""

    name: str
    axis: int
    upwards: bool  # rows run from superior to inferior, against the array
    letters: tuple[str, str, str, str]  # above, right, below, left


# arrays point toward superior, posterior and left
PLANES = (
    Plane(name="axial", axis=0, upwards=False, letters=("A", "L", "P", "R")),
    Plane(name="coronal", axis=1, upwards=True, letters=("S", "L", "I", "R")),
    Plane(name="sagittal", axis=2, upwards=True, letters=("S", "P", "I", "A")),
)


def preview(
    image: Image, mask: np.ndarray, labels: Labels, *, window: tuple[float, float] | None = None
) -> Pictures.Image:
    """The picture of a case: its first channel (or its colours) under a mask of label indices (z, y, x).

    ``window`` holds the intensities shown black and white; by default percentiles of the image.
    """
    from PIL import Image as Pictures

    planes = PLANES[:1] if image.planar else PLANES
    panels = [_panel(image, mask, plane, window) for plane in planes]
    entries = _legend(mask, labels, planar=image.planar)
    width = max(sum(panel.width for panel in panels) + GAP_PX * (len(panels) + 1), 320)
    rows = _rows(entries, width - 2 * GAP_PX)
    height = max(panel.height for panel in panels)
    titles = 0 if image.planar else 2 * TEXT_PX
    below = height + titles + 2 * GAP_PX
    whole = Pictures.new("RGB", (width, below + len(rows) * 2 * TEXT_PX), BACKGROUND)
    left = GAP_PX
    for panel, plane in zip(panels, planes, strict=True):
        whole.paste(panel, (left, GAP_PX + (height - panel.height) // 2))
        if titles:
            title = f"{plane.name} {fullest_slice(mask, plane.axis) + 1}/{mask.shape[plane.axis]}"
            _write(whole, (left, height + 2 * GAP_PX), title)
        left += panel.width + GAP_PX
    _write_legend(whole, rows, top=below)
    return whole


def write_preview(path: Path, picture: Pictures.Image) -> None:
    """Write a picture as a small PNG of 256 colours; the file appears whole."""
    with written_whole(path) as beside:
        picture.quantize(256).save(beside, format="PNG", optimize=True)


def _panel(image: Image, mask: np.ndarray, plane: Plane, window: tuple[float, float] | None) -> Pictures.Image:
    """One slice in the proportions of the patient, tinted, with the sides of the patient at its edges."""
    from PIL import Image as Pictures

    number = fullest_slice(mask, plane.axis)
    area = _turned(np.take(mask, number, axis=plane.axis), plane)
    grey = _turned(_shades(image, number, plane.axis, window), plane)
    steps = [step for axis, step in enumerate(image.geometry.spacing_mm) if axis != plane.axis]
    size = _size(area.shape, steps, PLANAR_PX if image.planar else PANEL_PX)
    picture = Pictures.fromarray(grey).convert("RGB").resize(size, Pictures.Resampling.BICUBIC)
    large = Pictures.fromarray(area.astype(np.int32)).resize(size, Pictures.Resampling.NEAREST)
    picture = Pictures.fromarray(tinted(np.asarray(picture), np.asarray(large)))
    if not image.planar:
        _write_sides(picture, plane)
    return picture


def fullest_slice(mask: np.ndarray, axis: int) -> int:
    """The slice with most foreground along an axis; the middle one where there is none.

    >>> fullest_slice(np.array([[[0, 0, 0]], [[0, 3, 1]], [[0, 1, 0]]]), axis=0)
    1
    """
    counts = np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis}))
    return int(np.argmax(counts)) if counts.any() else mask.shape[axis] // 2


def tinted(picture: np.ndarray, area: np.ndarray) -> np.ndarray:
    """A picture (y, x, 3) uint8 with the label indices (y, x) as translucent areas with solid outlines."""
    shown = picture.astype(np.float32)
    inner = area > 0
    colours = np.zeros((int(area.max()) + 1, 3), dtype=np.float32)
    for index in np.unique(area[inner]):
        colours[index] = label_colour(int(index))
    shown[inner] += OPACITY * (colours[area[inner]] - shown[inner])
    edge = inner & _differs_nearby(area, OUTLINE_PX)
    shown[edge] = colours[area[edge]]
    return np.rint(shown).astype(np.uint8)


def _differs_nearby(area: np.ndarray, reach: int) -> np.ndarray:
    """Where a pixel (y, x) has another label so many pixels up, down, left or right."""
    padded = np.pad(area, reach, mode="edge")
    rows, columns = area.shape
    differs = np.zeros(area.shape, dtype=bool)
    for down, right in ((-reach, 0), (reach, 0), (0, -reach), (0, reach)):
        moved = padded[reach + down : reach + down + rows, reach + right : reach + right + columns]
        differs |= moved != area
    return differs


def _shades(image: Image, number: int, axis: int, window: tuple[float, float] | None) -> np.ndarray:
    """A slice as uint8: grey (rows, columns), or with a last axis of colours where the image is a colour picture."""
    colour = image.planar and image.array.dtype == np.uint8 and len(image.array) >= 3
    shown = image.array[: 3 if colour else 1]
    low, high = window or np.percentile(shown, WINDOW).tolist()
    shares = (np.take(shown, number, axis=axis + 1).astype(np.float32) - low) / max(high - low, 1e-12)
    shades = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    return np.moveaxis(shades, 0, -1) if colour else shades[0]


def _turned(area: np.ndarray, plane: Plane) -> np.ndarray:
    return np.ascontiguousarray(area[::-1] if plane.upwards else area)


def _size(shape: Sequence[int], steps_mm: Sequence[float], longest_px: int) -> tuple[int, int]:
    """Width and height in pixels of a slice (rows, columns) with these distances."""
    high, wide = (count * step for count, step in zip(shape, steps_mm, strict=True))
    scale = longest_px / max(high, wide)
    return max(round(wide * scale), 1), max(round(high * scale), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A line of the legend; without a colour it is a remark."""

    text: str
    colour: tuple[int, int, int] | None = None


def _legend(mask: np.ndarray, labels: Labels, *, planar: bool) -> list[_Entry]:
    """The labels that a mask holds, and how to read the letters."""
    found = [int(index) for index in np.flatnonzero(np.bincount(mask.ravel(), minlength=labels.count)) if index]
    entries = [_Entry(text=labels.names[index], colour=label_colour(index)) for index in found[:MOST_NAMED]]
    if len(found) > MOST_NAMED:
        entries.append(_Entry(text=f"and {len(found) - MOST_NAMED} more"))
    if not found:
        entries.append(_Entry(text="no foreground"))
    return entries if planar else [*entries, _Entry(text="R: the patient's right")]


def _rows(entries: Sequence[_Entry], width: int) -> list[list[_Entry]]:
    """Entries in rows of at most this width."""
    rows: list[list[_Entry]] = [[]]
    used = 0.0
    for entry in entries:
        needed = _width(entry)
        if rows[-1] and used + needed > width:
            rows.append([])
            used = 0.0
        rows[-1].append(entry)
        used += needed
    return rows


def _width(entry: _Entry) -> float:
    return _font().getlength(entry.text) + 3 * TEXT_PX


def _write_legend(picture: Pictures.Image, rows: Sequence[Sequence[_Entry]], *, top: int) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    for number, row in enumerate(rows):
        left, upper = float(GAP_PX), top + number * 2 * TEXT_PX
        for entry in row:
            begin = left
            if entry.colour is not None:
                draw.rectangle((left, upper + 2, left + TEXT_PX - 2, upper + TEXT_PX), fill=entry.colour)
                begin += TEXT_PX * 1.4
            _write(picture, (begin, upper), entry.text)
            left += _width(entry)


def _write_sides(picture: Pictures.Image, plane: Plane) -> None:
    """Letters at the four edges, outlined so that they are read on any grey."""
    width, height = picture.size
    places = ((width / 2, 2, "ma"), (width - 3, height / 2, "rm"), (width / 2, height - 3, "md"), (3, height / 2, "lm"))
    for letter, (x, y, anchor) in zip(plane.letters, places, strict=True):
        _write(picture, (x, y), letter, anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0))


def _write(picture: Pictures.Image, place: tuple[float, float], words: str, **how: Any) -> None:
    from PIL import ImageDraw

    ImageDraw.Draw(picture).text(place, words, fill=INK, font=_font(), **how)


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=TEXT_PX)

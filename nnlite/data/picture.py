"""Read pictures that SimpleITK reads wrongly or not at all: TIFF of every kind, PNG and BMP of rare kinds.

SimpleITK takes a tiled grey TIFF for a coloured one, half-precision numbers for whole ones, and pages for slices
whatever they are. tifffile (which scikit-image brings along) knows what they are. The rule: pages are slices of a
volume, unless ImageJ or OME says in the file that they are channels. What a TIFF says of its pixels' size counts where
a microscope wrote it: OME, ImageJ with a unit, or a resolution finer than any print. Formats: TIFF 6.0, OME-TIFF
(ome-model.readthedocs.io), ImageJ's description (imagej.net).
"""

from __future__ import annotations

import math
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CHANNEL_AXES = "CS"  # channels, samples of a pixel
UNIT_MM = {
    "nm": 1e-6, "nanometer": 1e-6, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "\\u00b5m": 1e-3, "micron": 1e-3,
    "microns": 1e-3, "micrometer": 1e-3, "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0, "inch": 25.4,
}  # fmt: skip
RESOLUTION_UNIT_MM = {2: 25.4, 3: 10.0}  # TIFF's inch and centimetre
COARSEST_PIXEL_MM = 0.02  # 1270 dpi; a coarser resolution is meant for print, or is what a program writes by default
INVERTED, PALETTE, INKS = 0, 3, 5  # TIFF's photometric interpretations: 0 is white, colour table, CMYK
TOO_RARE = "imagecodecs"  # what tifffile names where it cannot unpack a TIFF by itself

Unpack = Callable[[Path], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """Voxels (channels, z, y, x), whether they are one page, and their size (z, y, x) where the file states it."""

    array: np.ndarray
    planar: bool
    spacing_mm: tuple[float, float, float] | None = None


def read_tiff(path: Path, unpack: Unpack) -> Picture:
    """The picture or volume in a TIFF; ``unpack`` is another reader, for pages packed in a way tifffile does not know.

    ``ValueError`` says what is wrong with the file, and the way out.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = _only_series(file)
            try:
                array = series.asarray()
            except ValueError as error:
                array = _unpacked(path, series, unpack, str(error))
            planar = _depth(series) == 1 and "Z" not in series.axes
            spacing_mm = _spacing(file, series.keyframe, planar=planar)
            return Picture(array=_ordered(array, series), planar=planar, spacing_mm=spacing_mm)
    except (tifffile.TiffFileError, struct.error, KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"is no .tif image, or damaged ({error}); get the file again") from error


def read_rare(path: Path, suffix: str) -> Picture | None:
    """A PNG of grey and transparency, or a BMP of 16 and fewer colours; None for all others."""
    with path.open("rb") as file:
        head = file.read(30)
    if len(head) < 30 or not (head[25] == 4 if suffix == ".png" else struct.unpack_from("<H", head, 28)[0] < 8):
        return None
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            bilevel = picture.mode == "1"
            whole = picture.convert("L" if bilevel else "LA" if picture.mode == "LA" else "RGB")
            array = np.asarray(whole)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"is no {suffix} image, or damaged; get the file again") from error
    array = array[..., None] if array.ndim == 2 else array
    return Picture(array=np.moveaxis(array, -1, 0)[:, None], planar=True)


def palette_indices(path: Path) -> np.ndarray | None:
    """The numbers (y, x) of the colours of a picture with a table of colours; None without one, or one of greys alone.

    The whole table is asked, not the colours that this picture uses: the pictures of a dataset share it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if not _has_palette(path):
            return None
        with Image.open(path) as picture:
            if picture.mode != "P":
                return None
            colours = np.array(picture.getpalette()).reshape(-1, 3)
            grey = (colours[:, 1:] == colours[:, :1]).all()
            return None if grey else np.array(picture)
    except (UnidentifiedImageError, OSError):
        return None


def _has_palette(path: Path) -> bool:
    """Whether the header tells of a table of colours; that of a BMP may be of greys."""
    import tifffile

    with path.open("rb") as file:
        head = file.read(30)
    suffix = path.suffix.lower()
    if suffix == ".png":
        return head[25:26] == b"\x03"
    if suffix == ".bmp":
        return len(head) == 30 and struct.unpack_from("<H", head, 28)[0] <= 8
    if suffix not in (".tif", ".tiff"):
        return False
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first.photometric == PALETTE


def _only_series(file: Any) -> Any:
    """The pages that belong together, if they are all."""
    if len(file.series) != 1:
        kinds = len(file.series)
        raise ValueError(f"holds {kinds} pictures of different sizes or kinds; save the one that is meant as a file")
    series = file.series[0]
    sizes = dict(zip(series.axes, series.shape, strict=True))
    if sizes.get("T", 1) > 1:
        raise ValueError(f"is a series of {sizes['T']} points in time; save each as a file of its own")
    if series.keyframe.photometric == INKS:
        raise ValueError("holds the inks of a print (CMYK); save it as RGB")
    if series.dtype is None or series.dtype.kind not in "buif":
        raise ValueError(f"holds {series.dtype} numbers; save plain ones")
    return series


def _unpacked(path: Path, series: Any, unpack: Unpack, why: str) -> np.ndarray:
    """The pages as another reader has them, if it has what the file announces."""
    if TOO_RARE not in why:
        raise ValueError(f"the file is cut short or damaged ({why}); get the file again")
    array = unpack(path)
    if series.keyframe.is_tiled or array.size != math.prod(series.shape) or array.dtype != series.dtype:
        packing = series.keyframe.compression.name
        raise ValueError(f"is packed as {packing}; install the package imagecodecs, or save it without compression")
    return array.reshape(series.shape)


def _depth(series: Any) -> int:
    sizes = zip(series.axes, series.shape, strict=True)
    return math.prod(size for axis, size in sizes if axis not in CHANNEL_AXES and axis not in "YX")


def _ordered(array: np.ndarray, series: Any) -> np.ndarray:
    """Pages as (channels, z, y, x), with their true colours, and white above black."""
    page = series.keyframe
    if array.dtype.kind == "b" or array.dtype == np.float16:
        array = array.astype(np.uint8 if array.dtype.kind == "b" else np.float32)
    if page.photometric == INVERTED and array.dtype.kind == "u":
        array = (2**page.bitspersample - 1) - array
    channels = [axis for axis, name in enumerate(series.axes) if name in CHANNEL_AXES]
    slices = [axis for axis, name in enumerate(series.axes) if name not in CHANNEL_AXES and name not in "YX"]
    ordered = array.transpose(*channels, *slices, series.axes.index("Y"), series.axes.index("X"))
    ordered = ordered.reshape(-1, _depth(series), *ordered.shape[-2:])
    if page.photometric == PALETTE and page.colormap is not None:
        ordered = (page.colormap[:, ordered[0]] >> 8).astype(np.uint8)
    return ordered


def _spacing(file: Any, page: Any, *, planar: bool) -> tuple[float, float, float] | None:
    """The size of the pixels, and the distance of slices, if a microscope's software stated it."""
    for z, y, x in (_by_ome(file), _by_imagej(file, page), _by_resolution(page)):
        steps = (1.0 if planar else z, y, x)
        if all(math.isfinite(step) and step > 0 for step in steps):
            return steps
    return None


def _by_ome(file: Any) -> tuple[float, float, float]:
    text = file.ome_metadata if file.is_ome else None
    try:
        parts = ElementTree.fromstring(text).iter() if text else iter(())
    except ElementTree.ParseError:
        parts = iter(())
    pixels = next((one for one in parts if one.tag.endswith("Pixels")), None)
    if pixels is None:
        return 0.0, 0.0, 0.0

    def step(axis: str) -> float:
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        return _number(pixels.get(f"PhysicalSize{axis}")) * UNIT_MM.get(unit, 0.0)

    return step("Z"), step("Y"), step("X")


def _by_imagej(file: Any, page: Any) -> tuple[float, float, float]:
    told = file.imagej_metadata if file.is_imagej else None
    unit = UNIT_MM.get(str((told or {}).get("unit", "")), 0.0)
    y, x = _resolution(page)
    return _number((told or {}).get("spacing")) * unit, y * unit, x * unit


def _by_resolution(page: Any) -> tuple[float, float, float]:
    unit = RESOLUTION_UNIT_MM.get(int(page.tags.valueof("ResolutionUnit", 2)), 0.0)
    y, x = (step * unit for step in _resolution(page))
    return (0.0, y, x) if max(y, x) <= COARSEST_PIXEL_MM else (0.0, 0.0, 0.0)


def _resolution(page: Any) -> tuple[float, float]:
    """Units per pixel along y and x; 0 where nothing is stated."""
    values = [page.tags.valueof(f"{axis}Resolution") for axis in "YX"]
    y, x = (value[1] / value[0] if value and value[0] else 0.0 for value in values)
    return y, x


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0

"""Several files as the channels of one image: whether their grids agree, and what to do where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nnlite.data.geometry import has_sizes
from nnlite.data.image import NO_DEPTH_MM, PICTURE_SUFFIXES, Image, Orientation, read_image, resampled
from nnlite.errors import ImageError

OTHER_GRID = (
    "resample the channels onto one grid, or have it done with --resample-channels-to CHANNEL, or with "
    '"reference_channel" in nnlite.json'
)


def read_channels(
    paths: Sequence[Path],
    series: str | None = None,
    *,
    orientation: Orientation = "canonical",
    reference: int | None = None,
) -> Image:
    """Read the files of one case, one after the other, as the channels of one image on one grid.

    Files on other grids are an ``ImageError``, unless ``reference`` is the place of the one onto whose grid they are to
    be resampled.
    """
    images = [read_image(path, series, orientation=orientation) for path in paths]
    if reference is None:
        for path, image in zip(paths, images, strict=True):
            if found := grid_differences(images[0], image, names=(paths[0].name, path.name)):
                raise ImageError(f"{path}: {'; '.join(found)}; {OTHER_GRID}")
    return join_channels(images, reference)


def join_channels(images: Sequence[Image], reference: int | None = None) -> Image:
    """All channels of images as one image, with the geometry and file grid of the first, or of the ``reference``.

    With a reference, images on other grids are resampled onto its grid: linearly, and with the lowest value of a
    channel where it has no voxels (air in CT, nothing in PET and MR).
    """
    if len(images) == 1:
        return images[0]
    target = images[reference or 0]
    others = (
        ()
        if reference is None
        else tuple(place for place, image in enumerate(images) if grid_differences(target, image))
    )
    arrays = [
        resampled(image, target.geometry) if place in others else image.array for place, image in enumerate(images)
    ]
    remarks = tuple(dict.fromkeys(remark for image in images for remark in image.remarks))
    return replace(target, array=np.concatenate(arrays), remarks=remarks, resampled=others)


def grid_differences(first: Image, second: Image, names: tuple[str, str] = ("first", "second")) -> list[str]:
    """How two grids differ, see ``Geometry.differences``; a picture that states no pixel size has any."""
    other = second.geometry
    if not (first.sized and second.sized):
        other = replace(other, spacing_mm=first.geometry.spacing_mm)
    return first.geometry.differences(other, names)


def in_units_of(image: Image, spacing_mm: Sequence[float], *, sized: bool = True) -> Image:
    """A picture as a network for pixels of ``spacing_mm`` (in any order) should see it.

    Where the pictures it was trained on stated no pixel size, that of a new one does not count either: they were not
    ``sized``, or the network's pixels are those of 1 mm.
    """
    counts = sized and has_sizes(spacing_mm)
    if image.stored.suffix not in PICTURE_SUFFIXES or not image.sized or counts:
        return image
    grid = replace(image.geometry, spacing_mm=(NO_DEPTH_MM if image.planar else 1.0, 1.0, 1.0))
    return replace(image, geometry=grid, stored=replace(image.stored, geometry=grid), sized=False)

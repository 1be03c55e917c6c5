"""Correct the files of one case in a copy of its dataset: headers, and the few voxels that no one can mean.

What is corrected is what has one plausible meaning: axes that are not at right angles, headers that contradict
themselves, single axes beyond the third, channels and labels that lie a voxel or less beside their image, whole
numbers saved as fractions, and voxels of an image that are no numbers. Everything else is left to its user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnlite.data.channels import grid_differences
from nnlite.data.dataset import Case
from nnlite.data.dicom.headers import is_series
from nnlite.data.geometry import MASK_SUFFIXES
from nnlite.data.image import Image, image_suffix, inspect_image, read_file_order, write_image
from nnlite.data.nifti_header import read_header
from nnlite.data.nifti_place import NO_DIRECTIONS
from nnlite.data.straighten import MOVED_VOXELS, farthest_corner_mm
from nnlite.errors import ImageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One file of a case and what was done to it, in words."""

    file: Path
    done: tuple[str, ...]


def fix_case(case: Case) -> Iterator[Repair]:
    """Correct the files of a case where they lie; files that cannot be read are left as they are."""
    first: Image | None = None
    for path in case.images:
        if (image := _readable(path)) is not None:
            fixed, done = _fixed(path, image, first)
            first = first or fixed
            yield from _written(path, fixed, done)
    if case.label is not None and (label := _readable(case.label)) is not None:
        fixed, done = _fixed(case.label, label, first, is_label=True)
        yield from _written(case.label, fixed, done)


def _readable(path: Path) -> Image | None:
    if is_series(path) or image_suffix(path) in MASK_SUFFIXES:  # DICOM and JPEG are no one's to rewrite
        return None
    try:
        return inspect_image(path, repair=True)
    except ImageError:
        return None


def _fixed(path: Path, image: Image, first: Image | None, *, is_label: bool = False) -> tuple[Image, list[str]]:
    """The image as it should be, and what that changes."""
    done = [remark for remark in image.remarks if remark != NO_DIRECTIONS]
    if single := _single_axes(path):
        done.append(f"{single} dropped")
    if image.not_finite and not is_label:
        image, told = _finite(path, image)
        done.append(told)
    if is_label and image.array.dtype.kind == "f" and not image.not_finite and (image.array % 1 == 0).all():
        done.append(f"label saved as whole numbers instead of {image.array.dtype.name}")
        small = np.min_scalar_type(int(image.array.max())) if image.array.min() >= 0 else np.dtype(np.int32)
        image = replace(image, array=image.array.astype(small))
    if first is not None and grid_differences(first, image):
        corner_mm = farthest_corner_mm(first.geometry, image.geometry)
        if corner_mm <= MOVED_VOXELS * min(first.geometry.spacing_mm):
            image = replace(image, geometry=first.geometry, stored=first.stored)
            done.append(f"put onto the grid of its image, which lay up to {corner_mm:.2g} mm beside")
    return image, done


def _written(path: Path, image: Image, done: list[str]) -> Iterator[Repair]:
    if done:
        stored = image.stored
        write_image(path, stored.as_stored(image.array), stored.geometry, planar=stored.planar)
        yield Repair(file=path, done=tuple(done))


def _single_axes(path: Path) -> str | None:
    """How many axes of one voxel a NIfTI file has beyond the third and its channels, in words."""
    header = read_header(path) if image_suffix(path) in (".nii", ".nii.gz") else None
    single = 0 if header is None else sum(size == 1 for size in header.shape[3:])
    return None if not single else "1 single axis" if single == 1 else f"{single} single axes"


def _finite(path: Path, image: Image) -> tuple[Image, str]:
    """The image with its smallest number wherever it has none: outside of what was scanned, as a rule."""
    array = np.array(image.stored.canonical(read_file_order(path, image)))
    finite = np.isfinite(array)
    least = array[finite].min() if finite.any() else array.dtype.type(0)
    told = f"{image.not_finite} voxels that are NaN or infinite set to {least:g}, the smallest of the others"
    return replace(image, array=np.where(finite, array, least), not_finite=0), told

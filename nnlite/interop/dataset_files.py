"""The files of a dataset in another layout: copied or linked as they are, written anew only where they have to be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnlite.data.channels import read_channels
from nnlite.data.image import image_suffix, read_label, write_image
from nnlite.data.labels import Labels

PAIRED_SUFFIX = ".mhd"  # half of an image: its voxels are in a second file


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """A file to be made of the images of a case: of all of them, or of a single ``channel``.

    ``reference`` is the place of the image onto whose grid the others are brought, None where they share one.
    ``fourth_axis`` says that channels are to be volumes one after the other, not components of each voxel.
    """

    sources: tuple[Path, ...]
    target: Path
    channel: int | None = None
    reference: int | None = None
    fourth_axis: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """A label map to be made of one; with ``as_indices`` its values become the labels' places in the table."""

    source: Path
    target: Path
    as_indices: Labels | None = None


def suffix_of(path: Path) -> str:
    """How a copy of this image is to end; nothing for a folder of DICOM slices."""
    suffix = image_suffix(path) or ""
    return ".mha" if suffix == PAIRED_SUFFIX else suffix


def make_image(file: ImageFile, *, link: bool) -> None:
    """Copy or link an image where it can stay as it is, else write what is asked of it."""
    alone = len(file.sources) == 1 and file.channel is None
    if alone and _stays(file.sources[0], file.target):
        copy(file.sources[0], file.target, link=link)
        return
    image = read_channels(file.sources, reference=file.reference)
    array = image.stored.as_stored(image.array)
    if file.channel is not None:
        array = array[file.channel : file.channel + 1]
    planar = image.planar
    write_image(file.target, array, image.stored.geometry, planar=planar, fourth_axis=file.fourth_axis)


def make_label(file: LabelFile, *, link: bool) -> None:
    """Copy or link a label map where it can stay as it is, else write it with its new values or format."""
    labels = file.as_indices
    if labels is None and _stays(file.source, file.target):
        copy(file.source, file.target, link=link)
        return
    image = read_label(file.source)
    array = image.array if labels is None else labels.to_indices(image.array)
    smallest = np.min_scalar_type(int(array.max()))
    stored = image.stored.as_stored(array.astype(smallest))
    write_image(file.target, stored, image.stored.geometry, planar=image.planar)


def copy(source: Path, target: Path, *, link: bool) -> None:
    """Copy a file or folder, or link it: the file itself, or where the file system has no second name for it, its path.

    Folders are linked by their path.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or a folder
            target.symlink_to(source.resolve())
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def common_suffix(sources: Sequence[Path], allowed: Sequence[str]) -> str | None:
    """The one suffix that all these files have and that is allowed; None where there is none."""
    suffixes = {suffix_of(path) for path in sources}
    return suffixes.pop() if len(suffixes) == 1 and suffixes <= set(allowed) else None


def _stays(source: Path, target: Path) -> bool:
    """Whether a file is what its target is to be."""
    if image_suffix(source) == PAIRED_SUFFIX:
        return False
    return suffix_of(source) == (image_suffix(target) or "")

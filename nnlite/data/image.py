"""Read and write volumes and pictures; the only user of SimpleITK.

Enters at the top of the pipeline: every image becomes an array (channels, z, y, x) whose axes point toward superior,
posterior and left (DICOM LPS), whatever the order of the file, by exact permutations and flips. ``StoredGrid``
remembers the way back, so that a mask is written on the grid of the file it belongs to. Oblique directions are kept.
Networks that were trained elsewhere may want their images as the file has them: that is the orientation "file".
"""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nnlite.data.integrity import examine
from nnlite.data.records import written_whole
from nnlite.errors import ImageError

if TYPE_CHECKING:
    import SimpleITK

NO_DEPTH_MM = 999.0  # slice distance given to 2D images, as nnU-Net does: far too thick to resample or pool across
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")  # no patient space; the resolution is for print
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", *PICTURE_SUFFIXES)
MASK_SUFFIXES = {".jpg": ".png", ".jpeg": ".png", ".mhd": ".mha"}  # JPEG would blur labels; .mhd is two files

SPACING_TOLERANCE = 1e-3  # relative; headers store float32, some tools print four digits
DIRECTION_TOLERANCE = 1e-3  # of a unit vector; 0.5 voxels at the end of an axis of 512
ORIGIN_TOLERANCE = 1e-2  # of the smallest spacing: a shift nobody could see

Triple = tuple[float, float, float]
Orientation = Literal["canonical", "file"]
"""Which axes an array has: those of the patient, always alike, or those of the file, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where a voxel grid sits in the patient. Every tuple is ordered like the array: (z, y, x).

    ``direction[p][a]`` is the part of array axis a that points along patient axis p (z toward superior, y toward
    posterior, x toward left). ``origin_mm`` is the centre of voxel (0, 0, 0).
    """

    shape: tuple[int, int, int]
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    direction: tuple[Triple, Triple, Triple] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"an image of shape {self.shape} has no voxels")
        if not all(math.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(f"spacing {self.spacing_mm} mm is not positive")
        if not np.isfinite([*self.origin_mm, *np.ravel(self.direction)]).all():
            raise ValueError("origin or direction is not a finite number")

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel; for pictures, whose depth is unknown, this means nothing."""
        return math.prod(self.spacing_mm) / 1000

    def differences(self, other: Geometry, names: tuple[str, str] = ("first", "second")) -> list[str]:
        """In words, with both values, how two grids differ beyond rounding; empty if they are the same.

        >>> a = Geometry(shape=(9, 9, 9), spacing_mm=(2.0, 1.0, 1.0))
        >>> b = Geometry(shape=(9, 9, 9), spacing_mm=(1.0, 1.0, 1.0))
        >>> a.differences(b, names=("image", "label"))
        ['label spacing (1, 1, 1) mm but image spacing (2, 1, 1) mm']
        """
        spacing, spacing_2 = np.array(self.spacing_mm), np.array(other.spacing_mm)
        origin_gap = np.abs(np.subtract(self.origin_mm, other.origin_mm)).max()
        agree = {
            "shape": self.shape == other.shape,
            "spacing_mm": np.allclose(spacing, spacing_2, rtol=SPACING_TOLERANCE, atol=0),
            "origin_mm": bool(origin_gap <= ORIGIN_TOLERANCE * spacing.min()),
            "direction": np.allclose(self.direction, other.direction, rtol=0, atol=DIRECTION_TOLERANCE),
        }
        mine, theirs = names
        found = []
        for field, same in agree.items():
            if not same:
                word, unit = field.removesuffix("_mm"), " mm" if field.endswith("_mm") else ""
                values = _in_words(getattr(other, field)), _in_words(getattr(self, field))
                found.append(f"{theirs} {word} {values[0]}{unit} but {mine} {word} {values[1]}{unit}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrid:
    """How the file holds the array: canonical axis c is the file's axis ``axes[c]``, reversed where ``flips[c]``.

    For an image in the orientation of its file both say that nothing was changed.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    planar: bool
    suffix: str
    geometry: Geometry

    @property
    def mask_suffix(self) -> str:
        """Suffix for a mask of this image: its own, unless that format cannot hold labels exactly."""
        return MASK_SUFFIXES.get(self.suffix, self.suffix)

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the array in canonical orientation."""
        z, y, x = (self.geometry.shape[axis] for axis in self.axes)
        return z, y, x

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """View of an array (channels, z, y, x) in the file's order, in canonical order: to read from or write into."""
        turned = array.transpose(0, *(axis + 1 for axis in self.axes))
        return np.flip(turned, _flipped_axes(self))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """Voxels (channels, z, y, x), in canonical orientation unless read otherwise, with their place in patient and file.

    ``not_finite`` counts the voxels that are NaN or infinite in the file (NIfTI files arrive with 0 in their place).
    """

    array: np.ndarray
    geometry: Geometry
    stored: StoredGrid
    not_finite: int = 0

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.geometry.shape:
            raise ValueError(f"an array of shape {self.array.shape} does not fit a grid of {self.geometry.shape}")

    @property
    def planar(self) -> bool:
        """Whether the file is 2D; its array has one slice."""
        return self.stored.planar


def image_suffix(path: Path) -> str | None:
    """The image suffix of a file name in lower case, None if it is no image nnlite reads.

    >>> image_suffix(Path("LIVER_1.5mm.NII.GZ"))
    '.nii.gz'
    >>> image_suffix(Path("notes.txt")) is None
    True
    """
    name = path.name.lower()
    return next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix) and len(name) > len(suffix)), None)


def read_image(path: Path, *, orientation: Orientation = "canonical") -> Image:
    """Read one file; colour components, vector components and the fourth axis of a 4D file become channels.

    Voxel values keep the type of the file. Raises ``ImageError`` naming the file and the cause, for NaN as well.
    """
    image = inspect_image(path, orientation=orientation)
    if image.not_finite:
        raise ImageError(
            f"{path}: {image.not_finite} of {image.array.size} voxels are NaN or infinite; replace them by numbers"
        )
    return image


def inspect_image(path: Path, *, orientation: Orientation = "canonical") -> Image:
    """Read one file like ``read_image``, but only count NaN and infinite voxels in ``not_finite``."""
    suffix = _checked_suffix(path)
    image, not_finite = _load(path, suffix)
    dimensions, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if dimensions not in (2, 3, 4) or (dimensions == 4 and components > 1):
        raise ImageError(f"{path}: has {dimensions} dimensions, nnlite reads images of 2, 3, or 3 with channels as 4th")
    array = _simpleitk().GetArrayFromImage(image)
    if array.dtype.kind not in "uif":
        raise ImageError(f"{path}: holds {image.GetPixelIDTypeAsString()} voxels; save plain numbers")
    if components > 1:
        array = np.moveaxis(array, -1, 0)
    elif dimensions < 4:
        array = array[None]
    if dimensions == 2:
        array = array[:, None]
    try:
        stored = _stored_grid(image, array.shape[1:], suffix, orientation)
    except ValueError as error:
        raise ImageError(f"{path}: {error}; correct its header") from error
    if array.dtype.kind == "f":
        not_finite = max(not_finite, array.size - int(np.count_nonzero(np.isfinite(array))))
    canonical = np.ascontiguousarray(stored.canonical(array))
    return Image(array=canonical, geometry=_canonical_geometry(stored), stored=stored, not_finite=not_finite)


def read_channels(paths: Sequence[Path], *, orientation: Orientation = "canonical") -> Image:
    """Read the files of one case, one after the other, as the channels of one image on one grid."""
    images = [read_image(path, orientation=orientation) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if found := images[0].geometry.differences(image.geometry, names=(paths[0].name, path.name)):
            raise ImageError(f"{path}: {'; '.join(found)}; resample the channels of a case onto one grid")
    return join_channels(images)


def join_channels(images: Sequence[Image]) -> Image:
    """All channels of images on one grid as one image, with the geometry and file grid of the first."""
    if len(images) == 1:
        return images[0]
    return replace(images[0], array=np.concatenate([image.array for image in images]))


def read_label(path: Path) -> Image:
    """Read a label map: one channel of whole numbers, as an integer array of shape (1, z, y, x).

    Grey pictures stored with equal colour components count as one channel; floats are accepted if they are whole.
    """
    image = read_image(path)
    array = image.array
    if len(array) in (3, 4) and image.planar and (array[1:3] == array[0]).all():
        array = array[:1]  # a fourth component is transparency
    if len(array) != 1:
        raise ImageError(
            f"{path}: a label map has one channel, this file has {len(array)}; save it in grey levels, one per label"
        )
    if array.dtype.kind == "f":
        if (broken := array[array != np.rint(array)]).size:
            some = ", ".join(f"{value:g}" for value in np.unique(broken)[:3])
            what = f"{broken.size} of {array.size} voxels of the label are fractions ({some}, ..)"
            raise ImageError(f"{path}: {what}; save whole numbers")
        array = array.astype(np.int32)
    return replace(image, array=array)


def write_mask(path: Path, mask: np.ndarray, like: Image | StoredGrid) -> None:
    """Write label values (z, y, x) in canonical orientation on the grid of the file that ``like`` was read from.

    2D files get 2D masks. The file appears whole; raises ``WorkspaceError`` on a full disk, ``ImageError`` if the
    format of ``path`` cannot hold the mask.
    """
    stored = like.stored if isinstance(like, Image) else like
    if mask.shape != stored.canonical_shape:
        raise ValueError(f"a mask of shape {mask.shape} does not fit its image of {stored.canonical_shape}")
    small = mask.astype(np.min_scalar_type(int(mask.max())), copy=False)
    write_image(path, _to_stored(small[None], stored), stored.geometry, planar=stored.planar)


def write_image(path: Path, array: np.ndarray, geometry: Geometry, *, planar: bool = False) -> None:
    """Write an array (channels, z, y, x) as it is, with its geometry; ``planar`` writes the only slice as a 2D file."""
    suffix = _checked_suffix(path)
    if suffix in MASK_SUFFIXES:
        raise ImageError(f"{path}: {suffix} cannot be written without loss; use {MASK_SUFFIXES[suffix]}")
    sitk = _simpleitk()
    voxels = np.moveaxis(array, 0, -1) if len(array) > 1 else array[0]
    axes = 2 if planar else 3
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels[0] if planar else voxels), isVector=len(array) > 1)
    if suffix not in PICTURE_SUFFIXES:
        image.SetSpacing(geometry.spacing_mm[::-1][:axes])
        image.SetOrigin(geometry.origin_mm[::-1][:axes])
        image.SetDirection(np.array(geometry.direction)[::-1, ::-1][:axes, :axes].ravel().tolist())
    with written_whole(path) as beside:
        try:
            sitk.WriteImage(image, str(beside), useCompression=True)
        except RuntimeError as error:
            if shutil.disk_usage(beside.parent).free < array.nbytes:
                raise OSError(errno.ENOSPC, "no space left") from error
            raise ImageError(f"{path}: cannot be written ({_last_line(error)}); choose another format") from error
        if examine(beside, suffix).problem:  # the NIfTI and BMP writers do not notice a full disk
            raise OSError(errno.ENOSPC, "no space left")


def _simpleitk() -> Any:
    import SimpleITK

    SimpleITK.ProcessObject.GlobalWarningDisplayOff()  # its remarks would tear progress bars apart
    return SimpleITK


def _checked_suffix(path: Path) -> str:
    suffix = image_suffix(path)
    if suffix is None:
        raise ImageError(f"{path}: is no kind of image nnlite knows; it knows {' '.join(IMAGE_SUFFIXES)}")
    return suffix


def _load(path: Path, suffix: str) -> tuple[SimpleITK.Image, int]:
    """The file as SimpleITK reads it, and the number of NaN that it would not mention."""
    if not path.is_file():
        raise ImageError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'does not exist'}")
    try:
        integrity = examine(path, suffix)
        if integrity.problem:
            raise ImageError(f"{path}: {integrity.problem}; get the file again")
        return _simpleitk().ReadImage(str(path)), integrity.not_finite
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    except RuntimeError as error:
        raise ImageError(f"{path}: {_cause(error, suffix)}") from error


def _cause(error: RuntimeError, suffix: str) -> str:
    """SimpleITK's account of a failed reading in plain words."""
    text = str(error)
    if "determine ImageIO" in text:
        return f"is no {suffix} image: damaged, or another kind of file under this name; get the file again"
    if "orthonormal" in text:
        return "its axes are not at right angles (sheared or empty direction in the header); resample it or repair it"
    if "bytes but received" in text or "fread got only" in text or "data not read completely" in text:
        return "the file is cut short; get the file again"
    return f"cannot be read, it may be damaged ({_last_line(error)}); get the file again"


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]


def _stored_grid(image: SimpleITK.Image, shape: tuple[int, ...], suffix: str, orientation: Orientation) -> StoredGrid:
    z, y, x = shape
    planar, picture = image.GetDimension() == 2, suffix in PICTURE_SUFFIXES
    spacing, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    if not picture:
        axes, given = min(3, image.GetDimension()), image.GetDimension()
        spacing[:axes] = image.GetSpacing()[:axes]
        origin[:axes] = image.GetOrigin()[:axes]
        direction[:axes, :axes] = np.reshape(image.GetDirection(), (given, given))[:axes, :axes]
    if planar:
        spacing[2] = NO_DEPTH_MM
    geometry = Geometry(
        shape=(z, y, x),
        spacing_mm=_triple(spacing[::-1]),
        origin_mm=_triple(origin[::-1]),
        direction=_rows(direction[::-1, ::-1]),
    )
    axes_, flips = _orientation(geometry) if orientation == "canonical" else ((0, 1, 2), (False, False, False))
    return StoredGrid(axes=axes_, flips=flips, planar=planar, suffix=suffix, geometry=geometry)


def _orientation(stored: Geometry) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """The file axis nearest to each patient axis, and whether it points the other way."""
    direction = np.array(stored.direction)

    def agreement(axes: tuple[int, ...]) -> float:  # rounded: at 45 degrees, noise must not decide
        return round(sum(abs(direction[patient, axis]) for patient, axis in enumerate(axes)), 6)

    z, y, x = max(permutations(range(3)), key=agreement)
    return (z, y, x), (bool(direction[0, z] < 0), bool(direction[1, y] < 0), bool(direction[2, x] < 0))


def _canonical_geometry(stored: StoredGrid) -> Geometry:
    file, axes, flips = stored.geometry, list(stored.axes), np.array(stored.flips)
    shape, spacing = np.array(file.shape)[axes], np.array(file.spacing_mm)[axes]
    direction = np.array(file.direction)[:, axes]
    # a reversed axis starts at what was its last voxel
    origin = np.array(file.origin_mm) + direction @ np.where(flips, spacing * (shape - 1), 0.0)
    z, y, x = shape.tolist()
    signs = np.where(flips, -1.0, 1.0)
    return Geometry(
        shape=(z, y, x),
        spacing_mm=_triple(spacing),
        origin_mm=_triple(origin),
        direction=_rows(direction * signs + 0.0),  # + 0.0 turns -0.0 into 0.0
    )


def _to_stored(array: np.ndarray, stored: StoredGrid) -> np.ndarray:
    turned = np.flip(array, _flipped_axes(stored))
    return np.ascontiguousarray(turned.transpose(0, *(axis + 1 for axis in np.argsort(stored.axes))))


def _flipped_axes(stored: StoredGrid) -> tuple[int, ...]:
    return tuple(axis + 1 for axis, flipped in enumerate(stored.flips) if flipped)


def _triple(values: np.ndarray) -> Triple:
    z, y, x = values.tolist()
    return z, y, x


def _rows(matrix: np.ndarray) -> tuple[Triple, Triple, Triple]:
    return _triple(matrix[0]), _triple(matrix[1]), _triple(matrix[2])


def _in_words(values: tuple[Any, ...]) -> str:
    inner = ", ".join(_in_words(value) if isinstance(value, tuple) else f"{value:.6g}" for value in values)
    return f"({inner})"

"""Read and write volumes and pictures; the only user of SimpleITK.

Enters at the top of the pipeline: every image becomes an array (channels, z, y, x) in canonical orientation, whatever
the order of the file, and a mask is written on the grid of the file it belongs to (``geometry.py``). Plain NIfTI files
are read without SimpleITK (``plain_nifti.py``).
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlite.data.dicom.headers import SUFFIX as DICOM_SUFFIX
from nnlite.data.dicom.headers import is_series
from nnlite.data.geometry import (
    COARSEST_SPACING_MM,
    FINEST_SPACING_MM,
    MASK_SUFFIXES,
    NO_DEPTH_MM,
    Geometry,
    Orientation,
    StoredGrid,
    grids,
    rows,
    triple,
)
from nnlite.data.integrity import examine
from nnlite.data.nifti_header import read_header
from nnlite.data.nifti_place import place, read_voxels
from nnlite.data.picture import palette_indices, read_rare, read_tiff
from nnlite.data.plain_nifti import read_plain
from nnlite.data.records import written_whole
from nnlite.data.straighten import Straightened, straighten
from nnlite.data.unreadable import cause, examined, last_line, no_image
from nnlite.errors import ImageError

if TYPE_CHECKING:
    import SimpleITK

NIFTI_SUFFIXES = (".nii.gz", ".nii")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")  # no patient space; the resolution is for print
TIFF_SUFFIXES, RARE_SUFFIXES = (".tif", ".tiff"), (".png", ".bmp")
SERIES_SUFFIX = ".nii.gz"  # what a mask of a DICOM series is written as
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".mha", ".mhd", *PICTURE_SUFFIXES)

FIX = "nnlite check DATASET --fix NEW_FOLDER corrects it in a copy"
TOO_MANY_DIMENSIONS = (
    "nnlite reads images, volumes, and volumes with channels as the fourth; save each volume (a point in time, say) as "
    "a file of its own"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """Voxels (channels, z, y, x), in canonical orientation unless read otherwise, with their place in patient and file.

    ``not_finite`` counts the voxels that are NaN or infinite in the file (NIfTI files arrive with 0 in their place);
    ``remarks`` tell what is odd about the header and how it was understood. ``sized`` is False for a picture that does
    not state the size of its pixels; they then count as 1 mm. ``resampled`` are the files of a case, counted from 0,
    whose channels lay on another grid.
    """

    array: np.ndarray
    geometry: Geometry
    stored: StoredGrid
    not_finite: int = 0
    remarks: tuple[str, ...] = ()
    sized: bool = True
    resampled: tuple[int, ...] = ()

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


def read_image(path: Path, series: str | None = None, *, orientation: Orientation = "canonical") -> Image:
    """Read one file, or a folder of DICOM slices; colour and vector components and a fourth axis become channels.

    Voxel values keep the type of the file; DICOM becomes Hounsfield units, or what its rescale slope and intercept say.
    ``series`` is the UID, number or description of one of several DICOM series in a folder.
    Raises ``ImageError`` naming the file and the cause, for NaN as well.
    """
    image = inspect_image(path, series, orientation=orientation)
    if image.not_finite:
        raise ImageError(
            f"{path}: {image.not_finite} of {image.array.size} voxels are NaN or infinite; replace them by numbers"
        )
    return image


def inspect_image(
    path: Path, series: str | None = None, *, orientation: Orientation = "canonical", repair: bool = False
) -> Image:
    """Read one file like ``read_image``, but only count NaN and infinite voxels in ``not_finite``.

    Axes that are a little off a right angle are straightened, with a remark; ``repair`` does it however far they are
    off, and makes the best of a header that contradicts itself.
    """
    if is_series(path):
        return _read_series(path, series, orientation)
    suffix = _checked_suffix(path)
    try:
        file = _read_file(path, suffix, repair=repair)
        stored, turned = grids(file.geometry, suffix, planar=file.planar, orientation=orientation)
    except ValueError as error:
        raise ImageError(f"{path}: {error}; correct its header") from error
    voxels = np.require(stored.canonical(file.array), requirements=("C", "W"))
    image = Image(array=voxels, geometry=turned, stored=stored, sized=file.sized)
    return replace(image, not_finite=file.not_finite, remarks=file.remarks)


def read_file_order(path: Path, image: Image) -> np.ndarray:
    """The voxels (channels, z, y, x) of an image as its file has them, NaN and infinity included."""
    header = read_header(path) if image.stored.suffix in NIFTI_SUFFIXES else None
    return image.stored.as_stored(image.array) if header is None else read_voxels(path, header)


def resampled(image: Image, onto: Geometry) -> np.ndarray:
    """The channels (channels, z, y, x) of an image on another grid, float32.

    Linear; where a channel has no voxels it gets its lowest value.
    """
    sitk = _simpleitk()
    grid = _set_geometry(sitk.Image(*onto.shape[::-1], sitk.sitkFloat32), onto, axes=3)
    channels = []
    for channel in image.array:
        moving = _set_geometry(sitk.GetImageFromArray(channel.astype(np.float32)), image.geometry, axes=3)
        lowest = float(channel.min())
        moved = sitk.Resample(moving, grid, sitk.Transform(), sitk.sitkLinear, lowest, sitk.sitkFloat32)
        channels.append(sitk.GetArrayFromImage(moved))
    return np.stack(channels)


def read_label(path: Path) -> Image:
    """Read a label map: one channel of whole numbers, as an integer array of shape (1, z, y, x).

    Grey pictures stored with equal colour components count as one channel, and numbers of a table of colours as they
    are; floats are accepted if they are whole.
    """
    image = read_image(path)
    array = image.array
    if len(array) in (3, 4) and image.planar:  # a fourth component is transparency
        if (indices := palette_indices(path)) is not None:
            array = indices[None, None]  # each colour stands for its number
        elif (array[1:3] == array[0]).all():
            array = array[:1]
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
    write_image(path, stored.as_stored(small[None]), stored.geometry, planar=stored.planar)


def write_image(
    path: Path, array: np.ndarray, geometry: Geometry, *, planar: bool = False, fourth_axis: bool = False
) -> None:
    """Write an array (channels, z, y, x) as it is, with its geometry; ``planar`` writes the only slice as a 2D file.

    Several channels are components of each voxel, or with ``fourth_axis`` volumes one after the other.
    """
    suffix = _checked_suffix(path)
    if suffix in MASK_SUFFIXES:
        raise ImageError(f"{path}: {suffix} cannot be written without loss; use {MASK_SUFFIXES[suffix]}")
    sitk = _simpleitk()
    voxels = np.moveaxis(array, 0, -1) if len(array) > 1 else array[0]
    axes = 2 if planar else 3
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels[0] if planar else voxels), isVector=len(array) > 1)
    if suffix not in PICTURE_SUFFIXES:
        _set_geometry(image, geometry, axes=axes)
    if fourth_axis and len(array) > 1:
        volumes = [sitk.VectorIndexSelectionCast(image, number) for number in range(len(array))]
        image = sitk.JoinSeries(volumes)
    with written_whole(path) as beside:
        try:
            sitk.WriteImage(image, str(beside), useCompression=True)
        except RuntimeError as error:
            if shutil.disk_usage(beside.parent).free < array.nbytes:
                raise OSError(errno.ENOSPC, "no space left") from error
            raise ImageError(f"{path}: cannot be written ({last_line(error)}); choose another format") from error
        if examine(beside, suffix).problem:  # the NIfTI and BMP writers do not notice a full disk
            raise OSError(errno.ENOSPC, "no space left")


def _read_series(path: Path, wanted: str | None, orientation: Orientation) -> Image:
    from nnlite.data.dicom.series import read_series
    from nnlite.data.dicom.stack import stack
    from nnlite.data.dicom.voxels import read_voxels

    slices = stack(read_series(path, wanted))
    stored, turned = grids(slices.geometry, SERIES_SUFFIX, orientation=orientation)
    voxels = np.require(stored.canonical(read_voxels(slices, read_by_gdcm)[None]), requirements=("C", "W"))
    return Image(array=voxels, geometry=turned, stored=stored)


def read_by_gdcm(path: Path) -> np.ndarray:
    """The frames (frames, rows, columns) of a compressed DICOM file in physical values, by GDCM within SimpleITK."""
    image, _ = _load(path, DICOM_SUFFIX)
    return _simpleitk().GetArrayFromImage(image)


def _simpleitk() -> Any:
    import SimpleITK

    SimpleITK.ProcessObject.GlobalWarningDisplayOff()  # its remarks would tear progress bars apart
    return SimpleITK


def _checked_suffix(path: Path) -> str:
    suffix = image_suffix(path)
    if suffix is None:
        raise ImageError(f"{path}: is no kind of image nnlite knows; it knows {' '.join(IMAGE_SUFFIXES)}")
    return suffix


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _File:
    """What a file holds, as it holds it: voxels (channels, z, y, x) and their grid, with axes at right angles."""

    array: np.ndarray
    geometry: Geometry
    planar: bool = False
    not_finite: int = 0
    remarks: tuple[str, ...] = ()
    sized: bool = True


def _read_file(path: Path, suffix: str, *, repair: bool) -> _File:
    """Read a file by the way that suits it; ``ValueError`` where its header makes no sense."""
    if suffix in PICTURE_SUFFIXES:
        return _read_picture(path, suffix)
    if suffix not in NIFTI_SUFFIXES:
        return _straight(path, _read_any(path, suffix), repair=repair)
    if (plain := read_plain(path)) is not None:
        return _File(array=plain.voxels[None], geometry=plain.geometry, not_finite=plain.not_finite)
    header = read_header(path)
    if header is None:
        examined(path, suffix)
        raise ImageError(f"{path}: {no_image(suffix)}")
    judged = place(header)
    if judged.problem and not (repair and judged.corrected):
        raise ImageError(f"{path}: {judged.problem}; {FIX if judged.corrected else judged.remedy}")
    grid = judged.straightened.geometry if judged.straightened else judged.corrected
    if grid is None:
        file = _straight(path, _read_any(path, suffix), repair=repair)
        return replace(file, remarks=judged.remarks + file.remarks)
    examined(path, suffix)
    array = read_voxels(path, header)
    told = (f"{judged.problem}; what its sform says is taken",) if judged.problem else ()
    file = _File(array=array, geometry=grid, not_finite=_count_not_finite(array), remarks=judged.remarks + told)
    return _straight(path, file, judged.straightened, repair=repair)


def _read_picture(path: Path, suffix: str) -> _File:
    """A picture, or a volume of pages; by SimpleITK where that is right."""
    examined(path, suffix)
    try:
        picture = read_tiff(path, _simpleitk_array) if suffix in TIFF_SUFFIXES else None
        if suffix in RARE_SUFFIXES:
            picture = read_rare(path, suffix)
    except ValueError as error:
        raise ImageError(f"{path}: {error}") from error
    if picture is None:
        return replace(_read_any(path, suffix), sized=False)
    depth_mm, *pixel_mm = picture.spacing_mm or (1.0, 1.0, 1.0)
    z, y, x = picture.array.shape[1:]
    spacing_mm = (NO_DEPTH_MM if picture.planar else depth_mm, pixel_mm[0], pixel_mm[1])
    return _File(
        array=picture.array,
        geometry=Geometry(shape=(z, y, x), spacing_mm=spacing_mm),
        planar=picture.planar,
        not_finite=_count_not_finite(picture.array),
        sized=picture.spacing_mm is not None,
    )


def _simpleitk_array(path: Path) -> np.ndarray:
    image, _ = _load(path, path.suffix.lower())
    return _simpleitk().GetArrayFromImage(image)


def _straight(path: Path, file: _File, known: Straightened | None = None, *, repair: bool) -> _File:
    """The file with its axes at right angles; ``ImageError`` if they are so far off that it could be seen."""
    if not all(FINEST_SPACING_MM <= step <= COARSEST_SPACING_MM for step in file.geometry.spacing_mm):
        raise ValueError(f"spacing {tuple(file.geometry.spacing_mm)} mm (z, y, x) cannot be true")
    straightened = known or straighten(file.geometry)
    if straightened is None:
        return file
    if not (straightened.small or repair):
        raise ImageError(f"{path}: {straightened.refused_in_words()}; {FIX}, or resample it")
    told = (straightened.in_words(),) if straightened.noticed else ()
    return replace(file, geometry=straightened.geometry, remarks=file.remarks + told)


def _read_any(path: Path, suffix: str) -> _File:
    """A file as SimpleITK reads it; single axes beyond the fourth are dropped."""
    image, not_finite = _load(path, suffix)
    dimensions, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    array = _simpleitk().GetArrayFromImage(image)
    if array.dtype.kind not in "uif":
        raise ImageError(f"{path}: holds {image.GetPixelIDTypeAsString()} voxels; save plain numbers")
    space = array.shape[dimensions - min(dimensions, 3) : dimensions]
    beyond = [size for size in array.shape[: dimensions - len(space)] if size > 1]
    if len(beyond) + (components > 1) > 1:
        told = " x ".join(map(str, image.GetSize()))
        raise ImageError(f"{path}: has {dimensions} dimensions ({told}); {TOO_MANY_DIMENSIONS}")
    if components > 1:
        array = np.moveaxis(array.reshape(*space, components), -1, 0)
    array = array.reshape(-1, *(1,) * (3 - len(space)), *space)
    not_finite = max(not_finite, _count_not_finite(array))
    return _File(
        array=array,
        geometry=_geometry(image, array.shape[1:], suffix),
        planar=dimensions == 2,
        not_finite=not_finite,
    )


def _count_not_finite(array: np.ndarray) -> int:
    return array.size - int(np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0


def _load(path: Path, suffix: str) -> tuple[SimpleITK.Image, int]:
    """The file as SimpleITK reads it, and the number of NaN that it would not mention."""
    not_finite = examined(path, suffix)
    try:
        return _simpleitk().ReadImage(str(path)), not_finite
    except RuntimeError as error:
        raise ImageError(f"{path}: {cause(error, path, suffix)}") from error


def _set_geometry(image: SimpleITK.Image, geometry: Geometry, *, axes: int) -> SimpleITK.Image:
    """Tell an image where it lies in the patient, by its first ``axes`` (x, y, z)."""
    image.SetSpacing(geometry.spacing_mm[::-1][:axes])
    image.SetOrigin(geometry.origin_mm[::-1][:axes])
    image.SetDirection(np.array(geometry.direction)[::-1, ::-1][:axes, :axes].ravel().tolist())
    return image


def _geometry(image: SimpleITK.Image, shape: tuple[int, ...], suffix: str) -> Geometry:
    """The grid of the first three axes; a 2D image gets a depth, and a picture says nothing of a place."""
    z, y, x = shape
    given = image.GetDimension()
    axes = 0 if suffix in PICTURE_SUFFIXES else min(3, given)
    spacing, origin, direction = np.array([1.0, 1.0, NO_DEPTH_MM if given == 2 else 1.0]), np.zeros(3), np.eye(3)
    spacing[:axes] = image.GetSpacing()[:axes]
    origin[:axes] = image.GetOrigin()[:axes]
    direction[:axes, :axes] = np.reshape(image.GetDirection(), (given, given))[:axes, :axes]
    return Geometry(
        shape=(z, y, x),
        spacing_mm=triple(spacing[::-1]),
        origin_mm=triple(origin[::-1]),
        direction=rows(direction[::-1, ::-1]),
    )

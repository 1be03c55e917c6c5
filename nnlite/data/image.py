"""Read and write volumes and pictures; the only user of SimpleITK.

Enters at the top of the pipeline: every image becomes an array (channels, z, y, x) in canonical orientation, whatever
the order of the file, and a mask is written on the grid of the file it belongs to (``geometry.py``). Plain NIfTI files
are read without SimpleITK (``plain_nifti.py``).
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlite.data.dicom.headers import SUFFIX as DICOM_SUFFIX
from nnlite.data.dicom.headers import is_series
from nnlite.data.geometry import MASK_SUFFIXES, Geometry, Orientation, StoredGrid, grids, rows, triple
from nnlite.data.integrity import examine
from nnlite.data.plain_nifti import read_plain
from nnlite.data.records import written_whole
from nnlite.errors import ImageError

if TYPE_CHECKING:
    import SimpleITK

NO_DEPTH_MM = 999.0  # slice distance given to 2D images, as nnU-Net does: far too thick to resample or pool across
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")  # no patient space; the resolution is for print
SERIES_SUFFIX = ".nii.gz"  # what a mask of a DICOM series is written as
OTHER_GRID = (
    "resample the channels onto one grid, or have it done with --resample-channels-to CHANNEL, or with "
    '"reference_channel" in nnlite.json'
)
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", *PICTURE_SUFFIXES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """Voxels (channels, z, y, x), in canonical orientation unless read otherwise, with their place in patient and file.

    ``not_finite`` counts the voxels that are NaN or infinite in the file (NIfTI files arrive with 0 in their place).
    ``resampled`` are the files of a case, counted from 0, whose channels lay on another grid.
    """

    array: np.ndarray
    geometry: Geometry
    stored: StoredGrid
    not_finite: int = 0
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


def inspect_image(path: Path, series: str | None = None, *, orientation: Orientation = "canonical") -> Image:
    """Read one file like ``read_image``, but only count NaN and infinite voxels in ``not_finite``."""
    if is_series(path):
        return _read_series(path, series, orientation)
    suffix = _checked_suffix(path)
    try:
        plain = read_plain(path) if suffix in (".nii.gz", ".nii") else None
        if plain is not None:
            array, geometry, planar, not_finite = plain.voxels[None], plain.geometry, False, plain.not_finite
        else:
            array, geometry, planar, not_finite = _read_any(path, suffix)
    except ValueError as error:
        raise ImageError(f"{path}: {error}; correct its header") from error
    stored, turned = grids(geometry, suffix, planar=planar, orientation=orientation)
    voxels = np.require(stored.canonical(array), requirements=("C", "W"))
    return Image(array=voxels, geometry=turned, stored=stored, not_finite=not_finite)


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
            if found := images[0].geometry.differences(image.geometry, names=(paths[0].name, path.name)):
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
        else tuple(place for place, image in enumerate(images) if target.geometry.differences(image.geometry))
    )
    arrays = [
        _resampled(image, target.geometry) if place in others else image.array for place, image in enumerate(images)
    ]
    return replace(target, array=np.concatenate(arrays), resampled=others)


def _resampled(image: Image, onto: Geometry) -> np.ndarray:
    """The channels (channels, z, y, x) of an image on another grid, float32."""
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
            raise ImageError(f"{path}: cannot be written ({_last_line(error)}); choose another format") from error
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


def _read_any(path: Path, suffix: str) -> tuple[np.ndarray, Geometry, bool, int]:
    """Voxels (channels, z, y, x) and geometry as the file has them, whether it is 2D, and how many are no numbers."""
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
    if array.dtype.kind == "f":
        not_finite = max(not_finite, array.size - int(np.count_nonzero(np.isfinite(array))))
    return array, _geometry(image, array.shape[1:], suffix), dimensions == 2, not_finite


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

"""Image files with something wrong, made from a good one: for each what a user has to be told, or that it is usable.

Each maker gets a folder that holds ``good.nii.gz`` (a ball, see ``conftest.py``) and writes one file into it.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from PIL import Image as Picture

from nnlite.data.image import read_image, write_image

DIM, TYPE, PIXDIM, START, SLOPE, CODES, QUATERNION, MATRIX = 40, 70, 76, 108, 112, 252, 256, 280
STRAIGHT = (-1.5, 0, 0, 12.5, 0, -1.5, 0, 5, 0, 0, 2, -30)  # an sform of the spacing of the balls


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A maker, and the words that a user has to read: of a refusal, or (``refused`` False) of a warning."""

    make: Callable[[Path], Path]
    says: str
    refused: bool
    predicted: bool


BROKEN: dict[str, Broken] = {}


def refused(says: str, *, predicted: bool = True) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Register a maker whose file cannot be used."""
    return _registered(says, refused=True, predicted=predicted)


def understood(says: str = "", *, predicted: bool = True) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Register a maker whose file is odd, and usable."""
    return _registered(says, refused=False, predicted=predicted)


def _registered(says: str, **how: bool) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def register(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        BROKEN[make.__name__.replace("_", " ")] = Broken(make=make, says=says, **how)
        return make

    return register


def nifti(folder: Path, *changes: tuple, packed: bool = False, order: str = "<") -> Path:
    """The good image as ``odd.nii`` (or .nii.gz) with numbers of its header overwritten: place, kind, values."""
    good = read_image(folder / "good.nii.gz", orientation="file")
    path = folder / "odd.nii"
    write_image(path, good.array, good.stored.geometry)
    content = bytearray(path.read_bytes())
    for place, kind, *values in changes:
        struct.pack_into(order + kind, content, place, *values)
    if packed:
        path.unlink()
        path = folder / "odd.nii.gz"
        path.write_bytes(gzip.compress(bytes(content)))
    else:
        path.write_bytes(content)
    return path


def rewritten(folder: Path, suffix: str, array: np.ndarray | None = None) -> Path:
    good = read_image(folder / "good.nii.gz", orientation="file")
    path = folder / f"odd{suffix}"
    write_image(path, good.array if array is None else array, good.stored.geometry)
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


# --- files that are damaged, or something else ---


@refused("cut short: its compressed data ends too early; get the file again")
def a_gzip_cut_short(folder: Path) -> Path:
    return cut(rewritten(folder, ".nii.gz"))


@refused("its compressed data cannot be unpacked; get the file again")
def a_gzip_with_rubbish_in_the_middle(folder: Path) -> Path:
    path = rewritten(folder, ".nii.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    return path


@refused("its compressed data cannot be unpacked; get the file again")
def a_gzip_with_rubbish_at_its_end(folder: Path) -> Path:
    path = rewritten(folder, ".nii.gz")
    path.write_bytes(path.read_bytes() + b"rubbish")
    return path


@understood()
def a_gzip_padded_with_zeros(folder: Path) -> Path:
    path = rewritten(folder, ".nii.gz")
    path.write_bytes(path.read_bytes() + bytes(512))
    return path


@understood()
def a_nii_gz_that_is_not_compressed(folder: Path) -> Path:
    return nifti(folder).rename(folder / "odd.nii.gz")


@refused("is compressed, as a .nii.gz file is; rename it to .nii.gz")
def a_nii_that_is_compressed(folder: Path) -> Path:
    return nifti(folder, packed=True).rename(folder / "odd.nii")


@refused("bytes are there; get the file again")
def a_nii_cut_short(folder: Path) -> Path:
    return cut(nifti(folder))


@understood()
def a_nii_with_rubbish_at_its_end(folder: Path) -> Path:
    path = nifti(folder)
    path.write_bytes(path.read_bytes() + b"rubbish")
    return path


@refused("the file is empty (0 bytes); get the file again")
def an_empty_nii_gz(folder: Path) -> Path:
    (folder / "odd.nii.gz").touch()
    return folder / "odd.nii.gz"


@refused("the file is empty (0 bytes); get the file again")
def an_empty_nrrd(folder: Path) -> Path:
    (folder / "odd.nrrd").touch()
    return folder / "odd.nrrd"


@refused("is no .nii.gz image: damaged, or another kind of file under this name; get the file again")
def text_named_nii_gz(folder: Path) -> Path:
    (folder / "odd.nii.gz").write_text("Access denied. Please log in to download this file.\n")
    return folder / "odd.nii.gz"


@refused("is no .nii.gz image")
def a_picture_named_nii_gz(folder: Path) -> Path:
    Picture.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "odd.png")
    return (folder / "odd.png").rename(folder / "odd.nii.gz")


# --- headers of NIfTI that say what cannot be ---


@refused("the spacing in its header, (2, 1.5, 0) mm, is not positive; correct its header")
def a_spacing_of_zero(folder: Path) -> Path:
    return nifti(folder, (PIXDIM + 4, "f", 0.0), (CODES, "2h", 1, 0))


@refused("(2, 1.5, 0) mm, is not positive (its sform says (2, 1.5, 1.5) mm); nnlite check DATASET --fix NEW_FOLDER")
def a_spacing_of_zero_beside_a_good_sform(folder: Path) -> Path:
    return nifti(folder, (PIXDIM + 4, "f", 0.0), (CODES, "2h", 0, 1), (MATRIX, "12f", *STRAIGHT))


@refused("(2, nan, 1.5) mm, is not positive")
def a_spacing_that_is_no_number(folder: Path) -> Path:
    return nifti(folder, (PIXDIM + 8, "f", np.nan), (CODES, "2h", 1, 0))


@refused("(inf, 1.5, 1.5) mm, is not positive")
def an_infinite_spacing(folder: Path) -> Path:
    return nifti(folder, (PIXDIM + 12, "f", np.inf), (CODES, "2h", 1, 0))


@understood("is negative; taken as positive")
def a_negative_spacing(folder: Path) -> Path:
    return nifti(folder, (PIXDIM + 4, "f", -1.5), (CODES, "2h", 0, 1), (MATRIX, "12f", *STRAIGHT))


@refused("mm (z, y, x) cannot be true; correct its header")
def a_spacing_of_a_kilometre(folder: Path) -> Path:
    return nifti(folder, (PIXDIM + 12, "f", 1e6), (CODES, "2h", 1, 0))


@refused("its header states two spacings: (2, 1.5, 1.5) mm (pixdim) and (6, 4.5, 4.5) mm (sform)")
def two_spacings(folder: Path) -> Path:
    return nifti(folder, (CODES, "2h", 0, 1), (MATRIX, "12f", *(3 * part for part in STRAIGHT)))


@refused("its sform is empty")
def an_empty_sform(folder: Path) -> Path:
    return nifti(folder, (CODES, "2h", 0, 1), (MATRIX, "12f", *[0] * 12))


@refused("its axes lie in one plane or are empty, so that it has no place in the patient")
def two_axes_that_coincide(folder: Path) -> Path:
    return nifti(folder, (CODES, "2h", 0, 1), (MATRIX, "12f", 1.5, 0, 0, 0, 0, 0, 0, 0, 0, 1.5, 2, 0))


@understood("degrees off a right angle; straightened, which moves its corners by up to")
def slightly_sheared_axes(folder: Path) -> Path:
    sheared = (-1.5, 0.02, 0, 12.5, 0, -1.5, 0, 5, 0, 0, 2, -30)
    return nifti(folder, (CODES, "2h", 0, 1), (MATRIX, "12f", *sheared))


@refused("degrees off a right angle (a sheared or tilted scan)")
def a_tilted_gantry(folder: Path) -> Path:
    tilted = (-1.5, 0, 0, 12.5, 0, -1.5, 0.7, 5, 0, 0, 1.87, -30)
    return nifti(folder, (CODES, "2h", 0, 1), (MATRIX, "12f", *tilted))


@understood("its qform and its sform place it differently, by up to")
def a_qform_that_contradicts_the_sform(folder: Path) -> Path:
    return nifti(folder, (CODES, "2h", 1, 1), (MATRIX, "12f", *STRAIGHT[:3], 90, *STRAIGHT[4:]))


@understood("its header does not say where its axes point")
def a_header_without_directions(folder: Path) -> Path:
    return nifti(folder, (CODES, "2h", 0, 0))


@refused("the rotation in its header (quaternion 5, 5, 5) is none; correct its header")
def a_quaternion_that_is_none(folder: Path) -> Path:
    return nifti(folder, (CODES, "2h", 1, 0), (QUATERNION, "3f", 5, 5, 5))


@refused("the number of voxels along its axes is 0 x 20 x 16 in its header; correct its header")
def an_axis_of_no_voxels(folder: Path) -> Path:
    return nifti(folder, (DIM + 2, "h", 0))


@refused("the number of voxels along its axes is -18 x 20 x 16 in its header; correct its header")
def an_axis_of_negative_length(folder: Path) -> Path:
    return nifti(folder, (DIM + 2, "h", -18))


@refused("of 70362301923678 bytes are there; get the file again")
def axes_that_fit_no_memory(folder: Path) -> Path:
    return nifti(folder, (DIM, "4h", 3, *[32767] * 3), (TYPE, "2h", 4, 16))


@refused("the number of voxels along its axes is not 1 to 7 in its header")
def nine_dimensions(folder: Path) -> Path:
    return nifti(folder, (DIM, "h", 9))


@refused("has 5 dimensions (18 x 5 x 4 x 2 x 8), and only the fourth may hold channels; save each volume")
def five_dimensions(folder: Path) -> Path:
    return nifti(folder, (DIM, "8h", 5, 18, 5, 4, 2, 8, 1, 1))


@understood()
def four_single_axes(folder: Path) -> Path:
    return nifti(folder, (DIM, "8h", 7, 18, 20, 16, 1, 1, 1, 1))


@refused("holds a kind of voxel that NIfTI does not know (code 999); save the voxels as plain numbers")
def an_unknown_kind_of_voxel(folder: Path) -> Path:
    return nifti(folder, (TYPE, "2h", 999, 32))


@refused("holds complex voxels; save the voxels as plain numbers")
def complex_voxels(folder: Path) -> Path:
    return nifti(folder, (TYPE, "2h", 32, 64))


@refused("its header contradicts itself: voxels of 8 bits, but of type float32")
def voxels_of_too_few_bits(folder: Path) -> Path:
    return nifti(folder, (TYPE, "2h", 16, 8))


@refused("its header says that the voxels start at byte -5")
def voxels_that_start_before_the_file(folder: Path) -> Path:
    return nifti(folder, (START, "f", -5.0))


@refused("get the file again")
def voxels_that_start_behind_the_file(folder: Path) -> Path:
    return nifti(folder, (START, "f", 1e8))


@understood()
def a_scale_that_is_no_number(folder: Path) -> Path:
    return nifti(folder, (SLOPE, "2f", np.nan, np.nan))


@understood()
def the_other_order_of_bytes(folder: Path) -> Path:
    path = rewritten(folder, ".nii")
    image = SimpleITK.ReadImage(str(path))
    good = np.frombuffer(path.read_bytes()[352:], "<f4")
    content = bytearray(352)
    struct.pack_into(">i", content, 0, 348)
    struct.pack_into(">8h", content, DIM, 3, *image.GetSize(), 1, 1, 1, 1)
    struct.pack_into(">2h", content, TYPE, 16, 32)
    struct.pack_into(">8f", content, PIXDIM, 1, *image.GetSpacing(), 1, 1, 1, 1)
    struct.pack_into(">3f", content, START, 352, 1, 0)
    struct.pack_into(">2h", content, CODES, 0, 1)
    struct.pack_into(">12f", content, MATRIX, *STRAIGHT)
    struct.pack_into(">4s", content, 344, b"n+1\0")
    path.write_bytes(bytes(content) + good.astype(">f4").tobytes())
    return path


# --- voxels ---


@refused("5 of 5760 voxels are NaN or infinite")
def voxels_that_are_no_numbers(folder: Path) -> Path:
    array = read_image(folder / "good.nii.gz", orientation="file").array.copy()
    array[0, 0, 0, :5] = np.nan
    return rewritten(folder, ".nii.gz", array)


@refused("1 of 5760 voxels are NaN or infinite")
def an_infinite_voxel(folder: Path) -> Path:
    array = read_image(folder / "good.nii.gz", orientation="file").array.copy()
    array[0, 3, 3, 3] = np.inf
    return rewritten(folder, ".mha", array)


@understood("has one value in all voxels of odd: nothing can be seen in it", predicted=False)
def an_image_of_one_value(folder: Path) -> Path:
    return rewritten(folder, ".nii.gz", np.full((1, 16, 20, 18), 7, np.int16))


# --- other formats ---


def meta(folder: Path, suffix: str = ".mha", **fields: str) -> Path:
    """The good image as a MetaImage with some fields of its header replaced."""
    good = read_image(folder / "good.nii.gz", orientation="file")
    header = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "12.5 5 -30",
        "ElementSpacing": "1.5 1.5 2", "DimSize": "18 20 16", "ElementType": "MET_FLOAT", "ElementDataFile": "LOCAL",
        **fields,
    }  # fmt: skip
    path = folder / f"odd{suffix}"
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    path.write_bytes(text.encode() + (good.array.tobytes() if header["ElementDataFile"] == "LOCAL" else b""))
    return path


def nrrd(folder: Path, **fields: str) -> Path:
    good = read_image(folder / "good.nii.gz", orientation="file")
    header = {
        "type": "float", "dimension": "3", "sizes": "18 20 16", "space": "left-posterior-superior",
        "space directions": "(1.5,0,0) (0,1.5,0) (0,0,2)", "space origin": "(12.5,5,-30)", "encoding": "raw",
        "endian": "little", **{key.replace("_", " "): value for key, value in fields.items()},
    }  # fmt: skip
    path = folder / "odd.nrrd"
    text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in header.items()) + "\n"
    path.write_bytes(text.encode() + (b"" if "data file" in header else good.array.tobytes()))
    return path


@refused("its voxels should lie in nowhere.raw beside it, and that file does not exist; put nowhere.raw beside it")
def an_mhd_without_its_voxels(folder: Path) -> Path:
    return meta(folder, ".mhd", ElementDataFile="nowhere.raw")


@refused("its header leads out of its folder, to ../../secret.raw")
def an_mha_that_leads_elsewhere(folder: Path) -> Path:
    return meta(folder, ElementDataFile="../../secret.raw")


@refused("its header leads out of its folder, to /dev/zero")
def an_mha_that_leads_to_a_device(folder: Path) -> Path:
    return meta(folder, ElementDataFile="/dev/zero")


@refused("bytes of voxels are in odd.mha; get the file again")
def an_mha_that_claims_terabytes(folder: Path) -> Path:
    return meta(folder, DimSize="50000 40000 30000")


@refused("(2, 1.5, 0) mm, is not positive; correct its header")
def an_mha_without_spacing(folder: Path) -> Path:
    return meta(folder, ElementSpacing="0 1.5 2")


@refused("its header states no size, or one that is not positive; correct its header")
def an_mha_of_negative_size(folder: Path) -> Path:
    return meta(folder, DimSize="-18 20 16")


@refused("its axes lie in one plane or are empty")
def an_mha_without_directions(folder: Path) -> Path:
    return meta(folder, TransformMatrix="0 0 0 0 0 0 0 0 0")


@refused("degrees off a right angle")
def an_mha_with_sheared_axes(folder: Path) -> Path:
    return meta(folder, TransformMatrix="1 0 0 0.5 1 0 0 0 1")


@refused("is no MetaImage")
def text_named_mha(folder: Path) -> Path:
    (folder / "odd.mha").write_text("no image\n")
    return folder / "odd.mha"


@refused("its voxels should lie in nowhere.raw beside it, and that file does not exist")
def an_nrrd_without_its_voxels(folder: Path) -> Path:
    return nrrd(folder, data_file="nowhere.raw")


@refused("its header leads out of its folder, to /etc/passwd")
def an_nrrd_that_leads_elsewhere(folder: Path) -> Path:
    return nrrd(folder, data_file="/etc/passwd")


@refused("bytes of voxels are in odd.nrrd; get the file again")
def an_nrrd_cut_short(folder: Path) -> Path:
    return cut(nrrd(folder))


@refused("the spacing in its header is not positive, or no number; correct its header")
def an_nrrd_with_an_empty_direction(folder: Path) -> Path:
    return nrrd(folder, space_directions="(1.5,0,0) (0,0,0) (0,0,2)")


# --- pictures ---


def picture(folder: Path, suffix: str, **options: object) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (60, 70), dtype=np.uint8)
    Picture.fromarray(noise).save(folder / f"odd{suffix}", **options)
    return folder / f"odd{suffix}"


@refused("its header or its voxels are damaged", predicted=False)
def a_png_with_a_wrong_checksum(folder: Path) -> Path:
    path = picture(folder, ".png")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 255
    path.write_bytes(content)
    return path


@refused("100000 x 100000 pixels do not fit into", predicted=False)
def a_png_that_claims_gigabytes(folder: Path) -> Path:
    path = picture(folder, ".png")
    content = bytearray(path.read_bytes())
    struct.pack_into(">2I", content, 16, 100000, 100000)
    path.write_bytes(content)
    return path


@refused("the end marker of the JPEG is missing; get the file again", predicted=False)
def a_jpeg_cut_short(folder: Path) -> Path:
    return cut(picture(folder, ".jpg"))


@refused("cut short or damaged", predicted=False)
def a_tiff_cut_short(folder: Path) -> Path:
    return cut(picture(folder, ".tif"))


@refused("bytes are there; get the file again", predicted=False)
def a_bmp_cut_short(folder: Path) -> Path:
    return cut(picture(folder, ".bmp"))


@refused("holds the inks of a print (CMYK); save it as RGB", predicted=False)
def a_tiff_of_inks(folder: Path) -> Path:
    Picture.fromarray(np.zeros((9, 9, 4), np.uint8), "CMYK").save(folder / "odd.tif")
    return folder / "odd.tif"


@refused("holds 2 pictures of different sizes or kinds", predicted=False)
def a_tiff_of_two_kinds(folder: Path) -> Path:
    pages = [Picture.fromarray(np.zeros((9, 9), kind)) for kind in (np.uint8, np.uint16)]
    pages[0].save(folder / "odd.tif", save_all=True, append_images=pages[1:])
    return folder / "odd.tif"


# --- places and names ---


@refused("is a folder, not a file", predicted=False)
def a_folder_named_like_a_file(folder: Path) -> Path:
    (folder / "odd.nii.gz").mkdir()
    return folder / "odd.nii.gz"


@refused("is a link to a file that does not exist; copy the file here, or correct the link", predicted=False)
def a_link_to_nowhere(folder: Path) -> Path:
    (folder / "odd.nii.gz").symlink_to("nowhere.nii.gz")
    return folder / "odd.nii.gz"


@refused("is a link that leads back to itself", predicted=False)
def a_link_to_itself(folder: Path) -> Path:
    (folder / "odd.nii.gz").symlink_to("odd.nii.gz")
    return folder / "odd.nii.gz"


@understood()
def a_name_with_spaces_and_umlauts(folder: Path) -> Path:
    path = folder / "Münchner Fall (2) + Größe é.nii.gz"
    good = read_image(folder / "good.nii.gz", orientation="file")
    write_image(path, good.array, good.stored.geometry)
    return path


@understood()
def a_name_in_capitals(folder: Path) -> Path:
    return rewritten(folder, ".nii.gz").rename(folder / "ODD.NII.GZ")

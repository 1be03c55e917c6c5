"""Files cut short are noticed in every format, NaN in every volume format; whole files are not suspected."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import SimpleITK

from nnlite.data.image import inspect_image, read_image
from nnlite.data.integrity import Integrity, examine
from nnlite.errors import ImageError

NOISE = np.random.default_rng(0).integers(0, 256, (6, 40, 40)).astype(np.uint8)


def written(folder, suffix):
    path = folder / f"a{suffix}"
    planar = suffix in (".png", ".jpg", ".bmp")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE[0] if planar else NOISE), str(path))
    return path


@pytest.mark.parametrize("share", [0.5, 0.97])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg", ".tif", ".bmp"])
def test_a_file_cut_short_is_an_error_in_every_format(tmp_path, suffix, share):
    path = written(tmp_path, suffix)
    read_image(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match="get the file again"):
        read_image(path)


def test_compressed_data_with_a_flipped_bit_is_noticed(tmp_path):
    path = written(tmp_path, ".nii.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"the file is damaged|cut short"):
        read_image(path)


def test_a_short_volume_compressed_as_a_whole_is_noticed(tmp_path):
    whole = written(tmp_path, ".nii").read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(whole[:-100]))
    assert (
        examine(path, ".nii.gz").problem == f"the file is cut short: {len(whole) - 100} of {len(whole)} bytes are there"
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_length_of_a_nifti_2_file_follows_from_its_header(tmp_path, order):
    header = bytearray(540)
    struct.pack_into(order + "i", header, 0, 540)
    struct.pack_into(order + "h", header, 14, 16)  # bits per voxel
    struct.pack_into(order + "8q", header, 16, 3, 4, 5, 6, 1, 1, 1, 1)
    struct.pack_into(order + "q", header, 168, 544)  # where the voxels start
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(header) + bytes(4 + 240))
    assert examine(path, ".nii") == Integrity()
    path.write_bytes(bytes(header) + bytes(4 + 239))
    assert examine(path, ".nii").problem == "the file is cut short: 783 of 784 bytes are there"


def test_pages_of_a_big_tiff_are_followed(tmp_path):
    path = tmp_path / "a.tif"
    page = struct.pack("<Q", 0) + struct.pack("<Q", 0)  # no entries, no next page
    head = b"II" + struct.pack("<HHHQ", 43, 8, 0, 16)
    path.write_bytes(head + page)
    assert examine(path, ".tif") == Integrity()
    path.write_bytes(head + page[:-1])
    assert examine(path, ".tif").problem == "the file is cut short: page 1 of the TIFF lies behind its end"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_nan_and_infinity_are_counted_in_every_volume_format(tmp_path, suffix, dtype):
    voxels = NOISE.astype(dtype)
    voxels[0, 0, :3] = np.nan, np.inf, -np.inf
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path))
    assert inspect_image(path).not_finite == 3
    with pytest.raises(ImageError, match=f"3 of {voxels.size} voxels are NaN or infinite"):
        read_image(path)

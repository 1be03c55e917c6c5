"""Files read directly are what SimpleITK makes of them; what is not plain is left to it."""

from __future__ import annotations

import gzip
import struct
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from nnlite.data.image import Geometry, inspect_image, write_image
from nnlite.data.plain_nifti import read_plain

SHAPE = (2, 3, 4)
VOXELS = np.arange(24, dtype=np.int16).reshape(SHAPE)
AXES = [
    np.eye(3)[list(axes)] * np.array(signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)
]
CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768}


def header(
    direction: np.ndarray = AXES[0],
    *,
    spacing_mm: tuple[float, ...] = (0.7, 1.25, 3.0),
    offset_mm: tuple[float, ...] = (-81.3, 12.7, 640.1),
    qform: int = 0,
    sform: int = 1,
    dtype: str = "i2",
) -> bytearray:
    """A NIfTI-1 header that places its axes by both forms; the one that does not count is wrong."""
    proper = direction * np.array([1, 1, np.sign(np.linalg.det(direction))])
    quaternion = Rotation.from_matrix(proper).as_quat(canonical=True)[:3] if qform else (0.1, 0.2, 0.3)
    matrix = np.column_stack([direction * spacing_mm, offset_mm]) if sform else np.ones((3, 4))
    content = bytearray(352)
    struct.pack_into("<i", content, 0, 348)
    struct.pack_into("<8h", content, 40, 3, *SHAPE[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", content, 70, CODES[dtype], 8 * np.dtype(dtype).itemsize)
    struct.pack_into("<4f", content, 76, np.sign(np.linalg.det(direction)), *spacing_mm)
    struct.pack_into("<3f", content, 108, 352, 1, 0)
    struct.pack_into("<B", content, 123, 2)
    struct.pack_into("<2h", content, 252, qform, sform)
    struct.pack_into("<6f", content, 256, *quaternion, *offset_mm)
    struct.pack_into("<12f", content, 280, *matrix.ravel())
    struct.pack_into("<4s", content, 344, b"n+1\0")
    return content


def require_same_as_simpleitk(path: Path) -> None:
    plain = read_plain(path)
    assert plain is not None
    image = SimpleITK.ReadImage(str(path))
    assert plain.geometry.shape[::-1] == image.GetSize()
    assert plain.geometry.spacing_mm[::-1] == image.GetSpacing()
    assert plain.geometry.origin_mm[::-1] == image.GetOrigin()
    assert tuple(np.array(plain.geometry.direction)[::-1, ::-1].ravel().tolist()) == image.GetDirection()
    voxels = SimpleITK.GetArrayFromImage(image)
    assert plain.voxels.dtype == voxels.dtype
    np.testing.assert_array_equal(plain.voxels, voxels)


@pytest.mark.parametrize(("qform", "sform"), [(0, 1), (0, 2), (1, 0), (3, 0), (1, 1), (2, 1)])
def test_each_of_the_48_orientations_is_read_as_simpleitk_reads_it(tmp_path: Path, qform: int, sform: int):
    path = tmp_path / "a.nii"
    for direction in AXES:
        path.write_bytes(header(direction, qform=qform, sform=sform) + VOXELS.tobytes())
        require_same_as_simpleitk(path)


@pytest.mark.parametrize(("qform", "sform"), [(0, 2), (1, 0), (1, 1)])
def test_oblique_axes_are_read_as_simpleitk_reads_them(tmp_path: Path, qform: int, sform: int):
    path, rng = tmp_path / "a.nii", np.random.default_rng(0)
    for number in range(60):
        small = 10.0 ** -(number % 8)  # from any turn to one that float32 hardly tells from none
        direction = Rotation.from_rotvec(small * rng.normal(size=3)).as_matrix() @ AXES[rng.integers(48)]
        spacing, offset = 10 ** rng.uniform(-1, 1, 3), rng.normal(0, 300, 3)
        content = header(direction, spacing_mm=tuple(spacing), offset_mm=tuple(offset), qform=qform, sform=sform)
        path.write_bytes(content + VOXELS.tobytes())
        require_same_as_simpleitk(path)


@pytest.mark.parametrize("dtype", CODES)
def test_every_type_of_number_is_kept(tmp_path: Path, dtype: str):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header(dtype=dtype) + VOXELS.astype(dtype).tobytes()))
    require_same_as_simpleitk(path)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_voxels_that_are_no_numbers_become_0_and_are_counted(tmp_path: Path, dtype: str):
    voxels = VOXELS.astype(dtype)
    voxels[0, 0, 1:4] = np.nan, np.inf, -np.inf
    path = tmp_path / "a.nii"
    path.write_bytes(header(dtype=dtype) + voxels.tobytes())
    require_same_as_simpleitk(path)
    assert inspect_image(path).not_finite == 3


def test_a_file_of_several_gzip_members_is_one_volume(tmp_path: Path):
    content, path = bytes(header() + VOXELS.tobytes()), tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content[:200]) + gzip.compress(content[200:390]) + gzip.compress(content[390:]))
    assert read_plain(path) is None  # its header ends in the second: left to SimpleITK, which reads all of it
    np.testing.assert_array_equal(np.sort(inspect_image(path).array, axis=None), VOXELS.ravel())
    path.write_bytes(gzip.compress(content[:390]) + gzip.compress(content[390:]))
    require_same_as_simpleitk(path)


@pytest.mark.realdata
def test_all_volumes_of_the_real_datasets_are_plain_and_read_as_simpleitk_reads_them(real_data: Path):
    files = sorted(real_data.glob("*/*/*.nii.gz"))
    assert files
    for path in files[::10]:
        require_same_as_simpleitk(path)


def test_voxels_can_be_written_to_whatever_their_orientation(tmp_path: Path):
    for number, direction in enumerate(AXES):
        path = tmp_path / f"{number}.nii"
        path.write_bytes(header(direction) + VOXELS.tobytes())
        inspect_image(path).array[...] = 0


UNUSUAL = {
    "four axes": ("<5h", 40, (4, 4, 3, 2, 1)),
    "an intent": ("<h", 68, (1007,)),
    "complex numbers": ("<2h", 70, (32, 64)),
    "a scale": ("<f", 112, (2.0,)),
    "an intercept": ("<f", 116, (-1024.0,)),
    "metres": ("<B", 123, (1,)),
    "no form": ("<2h", 252, (0, 0)),
    "two forms": ("<2h", 252, (1, 2)),
    "a spacing below 0": ("<f", 80, (-1.0,)),
    "no spacing": ("<f", 80, (float("nan"),)),
    "axes askew": ("<f", 284, (0.1,)),
    "an origin far away": ("<f", 292, (1e5,)),
    "an axis of no length": ("<9f", 280, (0.0,) * 9),
    "two files": ("<4s", 344, (b"ni1\0",)),
    "NIfTI-2": ("<i", 0, (540,)),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_what_is_unusual_is_left_to_simpleitk(tmp_path: Path, what: str):
    layout, place, values = UNUSUAL[what]
    content, path = header(), tmp_path / "a.nii"
    struct.pack_into(layout, content, place, *values)
    path.write_bytes(content + VOXELS.tobytes())
    assert read_plain(path) is None


def test_a_quaternion_too_long_to_be_a_rotation_is_left_to_simpleitk(tmp_path: Path):
    content, path = header(qform=1, sform=0), tmp_path / "a.nii"
    struct.pack_into("<3f", content, 256, 0.9, 0.9, 0.0)
    path.write_bytes(content + VOXELS.tobytes())
    assert read_plain(path) is None


def test_what_is_damaged_or_not_there_is_left_to_the_one_that_tells_why(tmp_path: Path):
    geometry = Geometry(shape=SHAPE, spacing_mm=(1, 1, 1))
    path = tmp_path / "a.nii.gz"
    write_image(path, VOXELS[None], geometry)
    whole = path.read_bytes()
    assert read_plain(path) is not None
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # in the checksum
    for damaged in (b"", whole[:5], whole[:60], whole[:-9], bytes(flipped), gzip.decompress(whole), b"\x1f\x8b" * 40):
        path.write_bytes(damaged)
        assert read_plain(path) is None
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))  # one byte of the last voxel
    assert read_plain(path) is None
    assert read_plain(tmp_path) is None
    assert read_plain(tmp_path / "missing.nii.gz") is None

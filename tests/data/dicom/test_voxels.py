"""Physical values: rescaled slice by slice, compressed or not, and what damaged pixels say."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
import SimpleITK

from nnlite.data.channels import read_channels
from nnlite.data.image import read_image
from nnlite.errors import ImageError


def test_each_slice_is_rescaled_by_its_own_numbers(tmp_path: Path):
    voxels = made.ramp()
    for number, path in enumerate(made.write_series(tmp_path, voxels)):  # as in PET
        made.change(path, RescaleSlope=0.5 + number, RescaleIntercept=number)
    slopes, intercepts = 0.5 + np.arange(5)[:, None, None], np.arange(5)[:, None, None]
    array = read_image(tmp_path).array[0]
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, voxels * slopes + intercepts)


def test_whole_values_stay_whole_and_small(tmp_path: Path):
    made.write_series(tmp_path / "int16", made.ramp() % 1000, RescaleIntercept=0)
    assert read_image(tmp_path / "int16").array.dtype == np.int16
    made.write_series(tmp_path / "uint16", made.ramp().astype(np.uint16))  # up to 65535 - 1024
    assert read_image(tmp_path / "uint16").array.dtype == np.int32
    made.write_series(tmp_path / "huge", made.ramp(), RescaleSlope=2**20)
    assert read_image(tmp_path / "huge").array.dtype == np.float32


def test_a_series_without_rescaling_has_the_stored_values(tmp_path: Path):
    voxels = made.ramp()
    for path in made.write_series(tmp_path, voxels):
        made.change(path, RescaleSlope=None, RescaleIntercept=None, Modality="MR")
    np.testing.assert_array_equal(read_image(tmp_path).array[0], voxels)


def test_an_enhanced_file_of_many_frames_is_a_volume(tmp_path: Path):
    voxels = made.ramp()
    path = made.write_enhanced(tmp_path / "a" / "enhanced.dcm", voxels)
    # the frames lie in reversed order; the last in the file, the first in space, has the slope 5
    expected = voxels.astype(int) * np.arange(5, 0, -1)[:, None, None]
    for given in (path, path.parent):
        image = read_image(given)
        np.testing.assert_array_equal(image.array[0], expected)
        assert image.geometry.spacing_mm == pytest.approx(made.SPACING_MM)


@pytest.fixture
def locale_kept() -> Iterator[None]:
    """GDCM, when it writes, leaves the whole process in the locale C, where text is ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("locale_kept")
@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_compressed_slices_hold_the_same_values(tmp_path: Path, compressor: str):
    made.write_series(tmp_path / "plain", made.ramp((5, 32, 32)), RescaleIntercept=0)
    (tmp_path / "packed").mkdir()
    for path in sorted((tmp_path / "plain").iterdir()):
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(tmp_path / "packed" / path.name))
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)  # both without loss
        read = SimpleITK.ReadImage(str(path))
        slice_16_bit = SimpleITK.Cast(read, SimpleITK.sitkInt16)
        for key in read.GetMetaDataKeys():
            slice_16_bit.SetMetaData(key, read.GetMetaData(key))
        writer.Execute(slice_16_bit)
    plain, packed = read_image(tmp_path / "plain"), read_image(tmp_path / "packed")
    syntax = made.pydicom.dcmread(next((tmp_path / "packed").iterdir())).file_meta.TransferSyntaxUID
    assert syntax.is_compressed
    np.testing.assert_array_equal(packed.array, plain.array)


def test_a_header_without_pixels_is_told_of(tmp_path: Path):
    path, *_ = made.write_series(tmp_path, made.ramp())
    made.change(path, PixelData=None)
    with pytest.raises(ImageError, match=rf"{path.name}: has no pixel data, only a header; get the file again"):
        read_image(tmp_path)


def test_pixels_that_are_cut_short_are_told_of(tmp_path: Path):
    path, *_ = made.write_series(tmp_path, made.ramp((5, 40, 40)))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ImageError, match=rf"{path.name}: .*cut short or damaged .*get the file again"):
        read_image(tmp_path)


def test_colour_slices_are_refused(tmp_path: Path):
    for path in made.write_series(tmp_path, made.ramp()):
        made.change(path, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    with pytest.raises(ImageError, match=r"is a colour image \(3 samples per pixel\); convert pictures to PNG"):
        read_image(tmp_path)


def test_two_series_of_one_grid_are_two_channels(tmp_path: Path):
    first, second = made.ramp(seed=1), made.ramp(seed=2)
    made.write_series(tmp_path / "a", first)
    made.write_series(tmp_path / "b", second)
    image = read_channels([tmp_path / "a", tmp_path / "b"])
    np.testing.assert_array_equal(image.array, np.stack([first, second]) - 1024)


@pytest.mark.realdata
def test_a_real_ct_is_read_as_simpleitk_reads_it(real_data: Path):
    for folder in (real_data / "dicom" / "STS_001" / "CT" / "image", real_data / "dicom" / "dcmqi" / "ct-3slice"):
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        other, image = reader.Execute(), read_image(folder)
        np.testing.assert_array_equal(image.stored.as_stored(image.array)[0], SimpleITK.GetArrayFromImage(other))
        np.testing.assert_allclose(image.stored.geometry.spacing_mm[::-1], other.GetSpacing(), atol=1e-9)
        np.testing.assert_allclose(image.stored.geometry.origin_mm[::-1], other.GetOrigin(), atol=1e-9)

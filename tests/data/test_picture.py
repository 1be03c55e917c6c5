"""TIFF of every kind, palettes, and the size of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from nnlite.data.channels import grid_differences, in_units_of
from nnlite.data.image import NO_DEPTH_MM, read_image, read_label
from nnlite.errors import ImageError

GREY = np.random.default_rng(0).integers(0, 255, (60, 70), dtype=np.uint8)
STACK = np.random.default_rng(1).integers(0, 60000, (3, 6, 7), dtype=np.uint16)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}, {"bigtiff": True}])
def test_grey_tiffs_are_read_exactly(tmp_path, dtype, options):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(dtype), **options)
    image = read_image(tmp_path / "a.tif")
    assert (image.array.dtype, image.planar, image.sized) == (np.dtype(dtype), True, False)
    np.testing.assert_array_equal(image.array[0, 0], GREY)


def test_half_precision_and_single_bits_are_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "half.tif", (GREY / 2).astype(np.float16))
    np.testing.assert_array_equal(read_image(tmp_path / "half.tif").array[0, 0], GREY / 2)
    tifffile.imwrite(tmp_path / "bits.tif", GREY > 99)
    assert np.unique(read_label(tmp_path / "bits.tif").array).tolist() == [0, 1]


def test_white_is_above_black_even_where_0_is_white(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array[0, 0], 255 - GREY)


def test_a_packing_that_tifffile_does_not_know_is_read_all_the_same(tmp_path):
    Picture.fromarray(GREY).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "lzw.tif").array[0, 0], GREY)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_become_channels(tmp_path, planar):
    colours = np.random.default_rng(2).integers(0, 255, (3, 6, 7), dtype=np.uint8)
    stored = colours if planar == "separate" else np.moveaxis(colours, 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array[:, 0], colours)


def test_pages_are_slices_unless_the_file_says_that_they_are_channels(tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", STACK, photometric="minisblack")
    tifffile.imwrite(tmp_path / "imagej.tif", STACK, imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "ome.tif", STACK, ome=True, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "slices.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    for name, shape, planar in [
        ("plain", (1, 3, 6, 7), False),
        ("slices", (1, 3, 6, 7), False),
        ("imagej", (3, 1, 6, 7), True),
        ("ome", (3, 1, 6, 7), True),
    ]:
        image = read_image(tmp_path / f"{name}.tif")
        assert (image.array.shape, image.planar) == (shape, planar)
        np.testing.assert_array_equal(image.array.reshape(STACK.shape), STACK)


def test_points_in_time_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(ImageError, match="3 points in time; save each as a file of its own"):
        read_image(tmp_path / "a.tif")


def test_the_size_of_pixels_counts_where_a_microscope_stated_it(tmp_path):
    size = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(tmp_path / "ome.tif", GREY, ome=True, metadata={"axes": "YX", **size})
    tifffile.imwrite(tmp_path / "imagej.tif", GREY, imagej=True, resolution=(2, 4), metadata={"unit": "um"})
    fine, print_dpi = (20000, 40000), (300, 300)  # per cm: 0.5 and 0.25 micrometres; per inch
    tifffile.imwrite(tmp_path / "cm.tif", GREY, resolution=fine, resolutionunit="CENTIMETER")
    tifffile.imwrite(tmp_path / "print.tif", GREY, resolution=print_dpi, resolutionunit="INCH")
    for name in ("ome", "imagej", "cm"):
        image = read_image(tmp_path / f"{name}.tif")
        assert image.sized
        assert image.geometry.spacing_mm == pytest.approx((NO_DEPTH_MM, 0.00025, 0.0005))
    image = read_image(tmp_path / "print.tif")
    assert (image.sized, image.geometry.spacing_mm) == (False, (NO_DEPTH_MM, 1.0, 1.0))


def test_a_label_without_a_pixel_size_fits_an_image_that_has_one(tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", GREY, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    Picture.fromarray(GREY).save(tmp_path / "label.png")
    image, label = read_image(tmp_path / "image.tif"), read_label(tmp_path / "label.png")
    assert grid_differences(image, label) == grid_differences(label, image) == []


def test_a_pixel_size_does_not_count_where_the_training_pictures_had_none(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    image = read_image(tmp_path / "a.tif")
    assert in_units_of(image, (NO_DEPTH_MM, 1.0, 1.0)).geometry.spacing_mm == (NO_DEPTH_MM, 1.0, 1.0)
    assert in_units_of(image, (NO_DEPTH_MM, 0.0004, 0.0004)) is image
    assert in_units_of(image, (1.9, 1.9, 1.9), sized=False).geometry.spacing_mm == (NO_DEPTH_MM, 1.0, 1.0)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_is_colours_in_an_image_and_numbers_in_a_label(tmp_path, suffix):
    numbers = (np.arange(42) % 3).astype(np.uint8).reshape(6, 7)
    picture = Picture.fromarray(numbers, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 128, 255])
    picture.save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}").array[0, 0], numbers)
    red, green, blue = read_image(tmp_path / f"a{suffix}").array[:, 0]
    np.testing.assert_array_equal(red, np.where(numbers == 1, 255, 0))
    np.testing.assert_array_equal(green, np.where(numbers == 2, 128, 0))
    np.testing.assert_array_equal(blue, np.where(numbers == 2, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_colours_have_the_same_numbers_in_a_label_that_uses_the_greys_among_them_alone(tmp_path, suffix):
    numbers = (np.arange(42) % 2).astype(np.uint8).reshape(6, 7)
    picture = Picture.fromarray(numbers, "P")
    picture.putpalette([0, 0, 0, 255, 255, 255, 255, 0, 0])
    picture.save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}").array[0, 0], numbers)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_of_greys_alone_counts_as_grey(tmp_path, suffix):
    numbers = (np.arange(42) % 2).astype(np.uint8).reshape(6, 7)
    picture = Picture.fromarray(numbers, "P")
    picture.putpalette([0, 0, 0, 255, 255, 255, 128, 128, 128])
    picture.save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}").array[0, 0], 255 * numbers)


def test_a_palette_with_transparency_holds_numbers_of_labels_too(tmp_path):
    numbers = (np.arange(42) % 3).astype(np.uint8).reshape(6, 7)
    picture = Picture.fromarray(numbers, "P")
    picture.putpalette([0, 0, 0, 255, 255, 255, 255, 0, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    assert len(read_image(tmp_path / "a.png").array) == 4
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array[0, 0], numbers)


def test_grey_with_transparency_and_bitmaps_of_two_colours_are_read(tmp_path):
    Picture.fromarray(np.stack([GREY, 255 - GREY], axis=-1), "LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array[:, 0], [GREY, 255 - GREY])
    Picture.fromarray(GREY > 99).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp").array[0, 0], 255 * (GREY > 99))

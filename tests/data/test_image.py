"""Reading and writing images: orientation, channels, exactness, and what is refused."""

from __future__ import annotations

import resource
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnlite.data.image import NO_DEPTH_MM, Geometry, image_suffix, read_image, read_label, write_image, write_mask
from nnlite.errors import ImageError, WorkspaceError

ORIENTATIONS = [(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]
SHAPE = (3, 4, 5)
VOXELS = np.arange(60, dtype=np.int16).reshape(SHAPE)


def stored_geometry(axes: tuple[int, ...], flips: tuple[bool, ...]) -> Geometry:
    """A file whose array axis ``axes[p]`` runs along patient axis p, backwards where ``flips[p]``."""
    direction = np.zeros((3, 3))
    for patient, (axis, flipped) in enumerate(zip(axes, flips, strict=True)):
        direction[patient, axis] = -1.0 if flipped else 1.0
    z, y, x = direction.tolist()
    return Geometry(
        shape=SHAPE, spacing_mm=(3.0, 0.5, 0.75), origin_mm=(-7.0, 11.0, 40.0), direction=(tuple(z), tuple(y), tuple(x))
    )


def position_mm(geometry: Geometry, index: tuple[int, ...]) -> np.ndarray:
    return np.array(geometry.origin_mm) + np.array(geometry.direction) @ (np.array(geometry.spacing_mm) * index)


def oblique(degrees: float) -> tuple[tuple[float, float, float], ...]:
    c, s = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    return ((1.0, 0.0, 0.0), (0.0, c, s), (0.0, -s, c))


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_every_orientation_becomes_canonical_and_keeps_each_voxel_at_its_place(tmp_path, axes, flips):
    stored = stored_geometry(axes, flips)
    write_image(tmp_path / "a.nrrd", VOXELS[None], stored)
    image = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image.geometry.direction, np.eye(3))
    for index in [(0, 0, 0), (2, 3, 4), (1, 0, 3)]:
        there = position_mm(stored, index)
        here = np.rint((there - image.geometry.origin_mm) / image.geometry.spacing_mm).astype(int)
        np.testing.assert_allclose(position_mm(image.geometry, tuple(here)), there, atol=1e-9)
        assert image.array[0][tuple(here)] == VOXELS[index]


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_a_mask_returns_to_the_grid_of_the_file_in_every_orientation(tmp_path, axes, flips):
    write_image(tmp_path / "a.nrrd", VOXELS[None], stored_geometry(axes, flips))
    image = read_image(tmp_path / "a.nrrd")
    write_mask(tmp_path / "mask.nrrd", image.array[0], like=image)
    before, after = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("a.nrrd", "mask.nrrd"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(after), SimpleITK.GetArrayFromImage(before))
    assert (after.GetSpacing(), after.GetOrigin()) == (before.GetSpacing(), before.GetOrigin())
    assert after.GetDirection() == before.GetDirection()


def test_in_the_orientation_of_its_file_an_image_is_as_it_was_written(tmp_path):
    direction = ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    geometry = Geometry(shape=(2, 3, 4), spacing_mm=(3.0, 2.0, 1.0), origin_mm=(7.0, 8.0, 9.0), direction=direction)
    voxels = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)
    write_image(tmp_path / "turned.nii.gz", voxels, geometry)
    image = read_image(tmp_path / "turned.nii.gz", orientation="file")
    assert np.array_equal(image.array, voxels)
    assert image.geometry.differences(geometry) == []
    write_mask(tmp_path / "mask.nii.gz", voxels[0], image)
    mask = read_image(tmp_path / "mask.nii.gz")
    assert np.array_equal(mask.array, read_image(tmp_path / "turned.nii.gz").array)
    assert mask.stored.geometry.differences(geometry) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_an_oblique_direction_survives_each_volume_format(tmp_path, suffix):
    given = Geometry(shape=SHAPE, spacing_mm=(2.5, 1.0, 1.0), origin_mm=(1.0, 2.0, 3.0), direction=oblique(20))
    write_image(tmp_path / f"a{suffix}", VOXELS[None], given)
    image = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(image.geometry.direction, given.direction, atol=1e-6)
    write_mask(tmp_path / f"m{suffix}", image.array[0], like=image)
    again = read_image(tmp_path / f"m{suffix}")
    assert again.geometry.differences(image.geometry) == []
    np.testing.assert_array_equal(again.array, image.array)


def test_a_rotation_beyond_45_degrees_takes_the_nearest_axis(tmp_path):
    write_image(tmp_path / "a.nrrd", VOXELS[None], Geometry(shape=SHAPE, spacing_mm=(1, 1, 1), direction=oblique(80)))
    image = read_image(tmp_path / "a.nrrd")
    assert image.array.shape == (1, 3, 5, 4)  # the file's x axis runs along y after 80 degrees
    assert np.diag(image.geometry.direction).min() > np.cos(np.radians(11))


def test_the_fourth_axis_and_vector_components_are_channels(tmp_path):
    volumes = np.arange(2 * 60, dtype=np.float32).reshape(2, *SHAPE)
    series = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(volume) for volume in volumes])
    SimpleITK.WriteImage(series, str(tmp_path / "series.nii.gz"))
    write_image(tmp_path / "vector.nrrd", volumes, Geometry(shape=SHAPE, spacing_mm=(1, 1, 1)))
    np.testing.assert_array_equal(read_image(tmp_path / "series.nii.gz").array, volumes)
    np.testing.assert_array_equal(read_image(tmp_path / "vector.nrrd").array, volumes)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_colour_picture_has_channels_and_gets_a_grey_mask(tmp_path, suffix):
    colours = np.random.default_rng(0).integers(0, 256, (3, 1, 6, 7)).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    write_image(path, colours, Geometry(shape=(1, 6, 7), spacing_mm=(1, 1, 1)), planar=True)
    image = read_image(path)
    assert image.planar
    assert image.geometry.spacing_mm == (NO_DEPTH_MM, 1, 1)
    np.testing.assert_array_equal(image.array, colours)
    mask = (colours[0] > 100) * 255
    write_mask(tmp_path / f"m{suffix}", mask, like=image)
    written = read_label(tmp_path / f"m{suffix}")
    assert written.planar
    np.testing.assert_array_equal(written.array[0], mask)


def test_a_2d_nifti_with_a_reversed_axis_gets_a_2d_mask_back(tmp_path):
    flat = SimpleITK.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    flat.SetSpacing((0.5, 2.0))
    flat.SetDirection((-1, 0, 0, 1))
    SimpleITK.WriteImage(flat, str(tmp_path / "a.mha"))
    image = read_image(tmp_path / "a.mha")
    assert image.geometry.spacing_mm == (NO_DEPTH_MM, 2.0, 0.5)
    np.testing.assert_array_equal(image.array[0, 0], np.arange(12).reshape(3, 4)[:, ::-1])
    write_mask(tmp_path / "m.mha", image.array[0], like=image)
    back = SimpleITK.ReadImage(str(tmp_path / "m.mha"))
    assert (back.GetDirection(), back.GetSpacing()) == (flat.GetDirection(), flat.GetSpacing())
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(back), np.arange(12).reshape(3, 4))


def test_masks_of_jpeg_images_are_written_as_png(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 4), np.uint8)), str(tmp_path / "a.jpg"))
    image = read_image(tmp_path / "a.jpg")
    assert image.stored.mask_suffix == ".png"
    with pytest.raises(ImageError, match=r"\.jpg cannot be written without loss; use \.png"):
        write_mask(tmp_path / "m.jpg", image.array[0], like=image)


def test_label_values_beyond_255_keep_their_value(tmp_path):
    write_image(tmp_path / "a.nii.gz", VOXELS[None], Geometry(shape=SHAPE, spacing_mm=(1, 1, 1)))
    mask = np.full(SHAPE, 1000)
    write_mask(tmp_path / "m.nii.gz", mask, like=read_image(tmp_path / "a.nii.gz"))
    assert (read_label(tmp_path / "m.nii.gz").array == 1000).all()


def test_a_mask_of_another_shape_is_refused(tmp_path):
    write_image(tmp_path / "a.nii.gz", VOXELS[None], Geometry(shape=SHAPE, spacing_mm=(1, 1, 1)))
    with pytest.raises(ValueError, match="does not fit"):
        write_mask(tmp_path / "m.nii.gz", np.zeros((3, 4, 6), int), like=read_image(tmp_path / "a.nii.gz"))


def test_whole_floats_are_labels_and_fractions_are_not(tmp_path):
    geometry = Geometry(shape=(1, 1, 3), spacing_mm=(1, 1, 1))
    for name, values in [("whole", [0, 1, 2]), ("broken", [0, 0.5, 2]), ("nan", [0, np.nan, 2])]:
        write_image(tmp_path / f"{name}.nii", np.array(values, np.float32).reshape(1, 1, 1, 3), geometry)
    label = read_label(tmp_path / "whole.nii").array
    assert label.dtype.kind == "i"
    assert label.ravel().tolist() == [0, 1, 2]
    with pytest.raises(ImageError, match=r"1 of 3 voxels of the label are fractions \(0\.5, \.\.\)"):
        read_label(tmp_path / "broken.nii")
    with pytest.raises(ImageError, match="1 of 3 voxels are NaN or infinite"):
        read_label(tmp_path / "nan.nii")


def test_a_coloured_label_picture_is_refused_and_a_grey_one_in_colour_accepted(tmp_path):
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    geometry = Geometry(shape=(1, 2, 2), spacing_mm=(1, 1, 1))
    opaque = np.full_like(grey, 255)
    write_image(tmp_path / "grey.png", np.stack([grey, grey, grey, opaque])[:, None], geometry, planar=True)
    write_image(tmp_path / "red.png", np.stack([grey, 0 * grey, 0 * grey])[:, None], geometry, planar=True)
    np.testing.assert_array_equal(read_label(tmp_path / "grey.png").array, grey[None, None])
    with pytest.raises(ImageError, match="a label map has one channel, this file has 3"):
        read_label(tmp_path / "red.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.nii.gz", None, "does not exist"),
        ("notes.txt", b"x", "is no kind of image nnlite knows"),
        ("text.nii.gz", b"this is a text\n", r"is no \.nii\.gz image"),
        ("text.png", b"this is a text\n", r"is no \.png image"),
        ("empty.nrrd", b"", "the file is empty"),
    ],
)
def test_a_file_that_is_no_image_is_named_with_its_cause(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(ImageError, match="is a folder, not a file"):
        read_image(tmp_path / "a.nii.gz")


def test_clearly_sheared_axes_are_explained_in_plain_words(tmp_path):
    path = tmp_path / "a.nii"
    write_image(path, VOXELS[None], Geometry(shape=SHAPE, spacing_mm=(1, 1, 1)))
    header = bytearray(path.read_bytes())
    header[252:256] = np.array([0, 1], "<i2").tobytes()  # qform code 0, sform code 1
    header[280:328] = np.array([1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], "<f4").tobytes()  # x leans into y
    path.write_bytes(header)
    with pytest.raises(
        ImageError, match=r"are up to 27 degrees off a right angle.*nnlite check DATASET --fix NEW_FOLDER"
    ):
        read_image(path)


def test_complex_voxels_are_refused(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ones(SHAPE, np.complex64)), str(tmp_path / "a.nrrd"))
    with pytest.raises(ImageError, match="complex"):
        read_image(tmp_path / "a.nrrd")


def test_an_image_of_five_dimensions_is_refused(tmp_path):
    five = SimpleITK.GetImageFromArray(np.zeros((2, 2, 2, 2, 2), np.float32), isVector=False)
    SimpleITK.WriteImage(five, str(tmp_path / "a.nrrd"))
    with pytest.raises(ImageError, match="has 5 dimensions"):
        read_image(tmp_path / "a.nrrd")


def test_a_header_whose_origin_is_no_number_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    write_image(path, VOXELS[None], Geometry(shape=SHAPE, spacing_mm=(1, 1, 1)))
    header = bytearray(path.read_bytes())
    for place in (268, 292):  # qoffset_x, and the shift of srow_x
        header[place : place + 4] = np.array([np.nan], "<f4").tobytes()
    path.write_bytes(header)
    with pytest.raises(ImageError, match="origin or direction is not a finite number; correct its header"):
        read_image(path)


def test_a_file_that_may_not_be_opened_is_named(tmp_path, monkeypatch):
    def refuse(*_) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").touch()
    monkeypatch.setattr("nnlite.data.unreadable.examine", refuse)
    with pytest.raises(ImageError, match=r"a\.png: cannot be opened \(Permission denied\); check its permissions"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".tif"])
def test_a_full_disk_is_one_clear_error_and_leaves_nothing_behind(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0})())
    noise = np.random.default_rng(0).integers(0, 256, (1, 20, 64, 64)).astype(np.uint8)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, unlimited[1]))  # stands for the end of the disk
    try:
        with pytest.raises(WorkspaceError, match="the disk is full"):
            write_image(tmp_path / f"a{suffix}", noise, Geometry(shape=(20, 64, 64), spacing_mm=(1, 1, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list(tmp_path.iterdir()) == []


def test_a_volume_does_not_become_a_png(tmp_path):
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "a.png", VOXELS[None], Geometry(shape=SHAPE, spacing_mm=(1, 1, 1)))
    assert list(tmp_path.iterdir()) == []


def test_suffixes_are_found_whatever_their_case():
    assert image_suffix(Path("x/CASE.1.NII.GZ")) == ".nii.gz"
    assert image_suffix(Path(".png")) is None


@pytest.mark.realdata
def test_real_masks_are_rewritten_with_the_header_of_their_image(real_data, tmp_path):
    for path in [
        *sorted((real_data / "hippocampus/labelsTr").glob("*"))[:3],
        real_data / "sarcoma/labelsTr/STS_002.nii.gz",
    ]:
        label = read_label(path)
        write_mask(tmp_path / path.name, label.array[0], like=label)
        before, after = SimpleITK.ReadImage(str(path)), SimpleITK.ReadImage(str(tmp_path / path.name))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(after), SimpleITK.GetArrayFromImage(before))
        assert after.GetSpacing() == before.GetSpacing()
        assert after.GetOrigin() == before.GetOrigin()
        np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-6)

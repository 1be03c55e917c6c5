"""A preview shows the right voxels in the right place, in the proportions of the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from nnlite.data.image import Geometry, Image, read_image, write_image
from nnlite.data.labels import Labels
from nnlite.evaluation.overlay import GAP_PX, PANEL_PX, PLANAR_PX, fullest_slice, preview, tinted, write_preview
from nnlite.evaluation.palette import label_colour

LABELS = Labels(names=("background", "ball", "core"), values=(0, 1, 7))


def volume(folder: Path, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Image:
    write_image(
        folder / "case.nii.gz", np.zeros((1, *shape), dtype=np.float32), Geometry(shape=shape, spacing_mm=spacing_mm)
    )
    return read_image(folder / "case.nii.gz")


def places(picture: Pictures.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of the pixels of one colour, above the legend."""
    pixels = np.asarray(picture).astype(int)[: PANEL_PX + GAP_PX]
    return np.argwhere((pixels == colour).all(axis=-1))


def test_slices_have_the_proportions_of_the_patient(tmp_path: Path):
    image = volume(tmp_path, (10, 20, 40), (6.0, 1.0, 1.0))  # 60 x 20 x 40 mm
    picture = preview(image, np.zeros((10, 20, 40), dtype=np.uint8), LABELS)
    axial, coronal, sagittal = PANEL_PX, round(PANEL_PX * 40 / 60), round(PANEL_PX * 20 / 60)
    assert picture.width == axial + coronal + sagittal + 4 * GAP_PX


def test_the_patient_s_right_is_left_and_superior_is_up(tmp_path: Path):
    image = volume(tmp_path, (20, 20, 20), (1.0, 1.0, 1.0))
    mask = np.zeros((20, 20, 20), dtype=np.uint8)
    mask[15:19, 1:5, 2:6] = 1  # superior, anterior, right: arrays point toward superior, posterior, left
    found = places(preview(image, mask, LABELS), label_colour(1))
    middle = GAP_PX + PANEL_PX / 2
    for number in range(3):  # so it lies in the upper left of all three slices
        left = GAP_PX + number * (PANEL_PX + GAP_PX)
        ours = found[(found[:, 1] >= left) & (found[:, 1] < left + PANEL_PX)]
        assert len(ours)
        assert (ours[:, 0] < middle).all()
        assert (ours[:, 1] < left + PANEL_PX / 2).all()


def test_an_outline_is_solid_and_an_area_lets_the_image_through():
    grey = np.full((20, 20, 3), 100, dtype=np.uint8)
    area = np.zeros((20, 20), dtype=np.int32)
    area[5:15, 5:15] = 2
    shown = tinted(grey, area)
    assert (shown[0, 0] == 100).all()
    assert tuple(shown[5, 5]) == label_colour(2)
    assert tuple(shown[10, 10]) not in (label_colour(2), (100, 100, 100))
    assert (np.abs(shown[10, 10].astype(int) - 100) < np.abs(np.array(label_colour(2)) - 100)).all()


def test_a_colour_picture_keeps_its_colours_and_has_no_letters(tmp_path: Path):
    colours = np.zeros((3, 1, 30, 60), dtype=np.uint8)
    colours[0, ..., :30] = 255  # red on the left
    colours[2, ..., 30:] = 255  # blue on the right
    write_image(tmp_path / "a.png", colours, Geometry(shape=(1, 30, 60), spacing_mm=(999.0, 1.0, 1.0)), planar=True)
    picture = preview(read_image(tmp_path / "a.png"), np.zeros((1, 30, 60), dtype=np.uint8), LABELS)
    assert picture.width == PLANAR_PX + 2 * GAP_PX
    pixels = np.asarray(picture)
    row = GAP_PX + PLANAR_PX // 4
    assert tuple(pixels[row, GAP_PX + 20]) == (255, 0, 0)
    assert tuple(pixels[row, GAP_PX + PLANAR_PX - 20]) == (0, 0, 255)


def test_a_window_decides_what_is_black_and_white(tmp_path: Path):
    shape = (4, 8, 8)
    values = np.linspace(-1000, 1000, 4 * 8 * 8).reshape(1, *shape).astype(np.float32)
    write_image(tmp_path / "ct.nii.gz", values, Geometry(shape=shape, spacing_mm=(1.0, 1.0, 1.0)))
    image, nothing = read_image(tmp_path / "ct.nii.gz"), np.zeros(shape, dtype=np.uint8)
    narrow = np.asarray(preview(image, nothing, LABELS, window=(-1, 1)))
    wide = np.asarray(preview(image, nothing, LABELS, window=(-1000, 1000)))
    inside = (slice(GAP_PX + 100, GAP_PX + 120), slice(GAP_PX + 100, GAP_PX + 120))
    assert set(np.unique(narrow[inside])) <= {0, 255}
    assert len(np.unique(wide[inside])) > 2


def test_the_fullest_slice_is_shown_and_the_middle_one_where_nothing_was_found():
    mask = np.zeros((9, 9, 9), dtype=np.uint8)
    assert [fullest_slice(mask, axis) for axis in range(3)] == [4, 4, 4]
    mask[1, 2, 3:6] = 1
    mask[1, 7, 5] = 2
    assert [fullest_slice(mask, axis) for axis in range(3)] == [1, 2, 5]


@pytest.mark.parametrize("labels", [2, 120])
def test_a_written_preview_is_small_and_many_labels_do_not_burst_it(tmp_path: Path, labels: int):
    names = ("background", *(f"structure number {index}" for index in range(1, labels)))
    image = volume(tmp_path, (8, 16, 16), (1.0, 1.0, 1.0))
    mask = (np.arange(8 * 16 * 16).reshape(8, 16, 16) % labels).astype(np.int16)
    picture = preview(image, mask, Labels(names=names, values=tuple(range(labels))))
    write_preview(tmp_path / "case.preview.png", picture)
    with Pictures.open(tmp_path / "case.preview.png") as written:
        assert written.size == picture.size
    assert (tmp_path / "case.preview.png").stat().st_size < 400_000
    assert picture.height < 2 * PANEL_PX

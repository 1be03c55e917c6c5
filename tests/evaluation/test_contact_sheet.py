"""A contact sheet has every picture at its place, in the greys of the first, and is a small file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nnlite.evaluation.contact_sheet import TILE_PX, Tile, contact_sheet, write_sheet
from nnlite.evaluation.overlay import GAP_PX

EMPTY = np.zeros((10, 20), np.uint8)
RAMP = np.linspace(0, 1, 200).reshape(10, 20)


def test_each_group_begins_a_row_of_its_own() -> None:
    tiles = [Tile(title="", image=RAMP, label=EMPTY)] * 3
    two_rows, three_rows = contact_sheet([tiles], columns=2), contact_sheet([tiles, tiles[:1]], columns=2)
    assert two_rows.width == three_rows.width == 2 * (TILE_PX + GAP_PX) + GAP_PX
    row = three_rows.height - two_rows.height
    assert two_rows.height == 2 * row + GAP_PX


def test_pictures_have_the_greys_of_the_first_and_labels_their_colour() -> None:
    label = EMPTY.copy()
    label[2:8, 4:16] = 1
    tiles = [
        Tile(title="", image=image, label=area) for image, area in ((RAMP, EMPTY), (RAMP * 0 + 1, EMPTY), (RAMP, label))
    ]
    sheet = np.asarray(contact_sheet([tiles], columns=3))
    middle = GAP_PX + TILE_PX // 4
    white, tinted = (sheet[middle, GAP_PX + number * (TILE_PX + GAP_PX) + TILE_PX // 2] for number in (1, 2))
    assert white.tolist() == [255, 255, 255]
    assert len(set(tinted.tolist())) > 1  # no grey


def test_a_pixel_may_be_higher_than_wide() -> None:
    tile = Tile(title="", image=RAMP, label=EMPTY)
    flat, high = (contact_sheet([[tile]], columns=1, proportion=p) for p in (1.0, 2.0))
    assert high.height - flat.height == TILE_PX // 2  # 10 rows twice as high are as high as 20 columns are wide


def test_the_file_is_a_picture(tmp_path: Path) -> None:
    tiles = [
        Tile(title=str(n), image=np.random.default_rng(n).normal(size=(64, 64)), label=np.zeros((64, 64), int))
        for n in range(24)
    ]
    write_sheet(tmp_path / "page.png", contact_sheet([tiles], columns=6))
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.format == "PNG"

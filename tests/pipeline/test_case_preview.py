"""What of a case is drawn beside its mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny
from PIL import Image as Pictures

from nnlite.data.dataset import find_images
from nnlite.data.geometry import Geometry
from nnlite.data.image import read_image, read_label, write_image
from nnlite.pipeline.case_preview import previews_of, window


def test_a_preview_is_drawn_from_label_values_and_named_after_its_case(balls: Path, tmp_path: Path):
    plan = tiny.plan()
    plan = replace(plan, labels=replace(plan.labels, values=(0, 1, 7)))
    [case] = find_images([balls / "images" / "ball_1.nii.gz"], 1)
    label = read_label(balls / "labels" / "ball_1.nii.gz")
    path = previews_of([case], plan).write(tmp_path, "ball_1", label.array[0], label.stored)
    assert path == tmp_path / "ball_1.preview.png"
    with Pictures.open(path) as picture:
        assert picture.width > picture.height


def test_a_mask_in_the_axes_of_its_file_is_drawn_where_it_belongs(tmp_path: Path):
    voxels = np.zeros((1, 12, 16, 20), np.uint8)
    voxels[0, 2:5, 3:12, 4:9] = 1
    turned = ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    write_image(tmp_path / "case.nii.gz", voxels, Geometry(shape=(12, 16, 20), spacing_mm=(3, 1, 2), direction=turned))
    [case] = find_images([tmp_path / "case.nii.gz"], 1)
    drawn = []
    for orientation in ("canonical", "file"):
        label = read_image(tmp_path / "case.nii.gz", orientation=orientation)
        folder = tmp_path / orientation
        folder.mkdir()
        drawn.append(previews_of([case], tiny.plan()).write(folder, "case", label.array[0], label.stored).read_bytes())
    assert drawn[0] == drawn[1]


def test_a_ct_is_shown_around_its_labels_and_as_wide_as_soft_tissue_at_least():
    made = tiny.plan()
    ct = replace(made.configurations["3d"], normalization=("ct",))
    narrow = replace(made.intensities[0], percentile_00_5=20.0, percentile_99_5=60.0)
    wide = replace(made.intensities[0], percentile_00_5=-1000.0, percentile_99_5=1000.0)
    assert window(replace(made, configurations={"3d": ct}, intensities=(narrow,))) == (-160.0, 240.0)
    assert window(replace(made, configurations={"3d": ct}, intensities=(wide,))) == (-1000.0, 1000.0)
    assert window(made) is None

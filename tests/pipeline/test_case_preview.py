"""What of a case is drawn beside its mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tiny
from PIL import Image as Pictures

from nnlite.data.dataset import find_images
from nnlite.data.image import read_label
from nnlite.pipeline.case_preview import previews_of, window


def test_a_preview_is_drawn_from_label_values_and_named_after_its_case(balls: Path, tmp_path: Path):
    plan = tiny.plan()
    plan = replace(plan, labels=replace(plan.labels, values=(0, 1, 7)))
    [case] = find_images([balls / "images" / "ball_1.nii.gz"], 1)
    values = read_label(balls / "labels" / "ball_1.nii.gz").array[0]
    path = previews_of([case], plan).write(tmp_path, "ball_1", values)
    assert path == tmp_path / "ball_1.preview.png"
    with Pictures.open(path) as picture:
        assert picture.width > picture.height


def test_a_ct_is_shown_around_its_labels_and_as_wide_as_soft_tissue_at_least():
    made = tiny.plan()
    ct = replace(made.configurations["3d"], normalization=("ct",))
    narrow = replace(made.intensities[0], percentile_00_5=20.0, percentile_99_5=60.0)
    wide = replace(made.intensities[0], percentile_00_5=-1000.0, percentile_99_5=1000.0)
    assert window(replace(made, configurations={"3d": ct}, intensities=(narrow,))) == (-160.0, 240.0)
    assert window(replace(made, configurations={"3d": ct}, intensities=(wide,))) == (-1000.0, 1000.0)
    assert window(made) is None

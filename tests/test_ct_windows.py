"""From a CT to a mask with windows and masks as further channels: planned, trained, predicted, handed on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import Geometry, read_label, write_image
from nnlite.errors import PlanError
from nnlite.planning.cost import costs, input_channels
from nnlite.preprocessing.store import CaseStore

GEOMETRY = Geometry(shape=(12, 24, 24), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))


def write_cases(folder: Path, seeds: range, channel: str = "CT") -> list[Path]:
    """Soft tissue with a ball of 60 HU in it, beside air and bone."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        z, y, x = np.indices(GEOMETRY.shape)
        ball = (z - 5.5) ** 2 + (y - rng.uniform(9, 15)) ** 2 + (x - rng.uniform(9, 15)) ** 2 < 16
        hu = np.where(x < 4, -900, np.where(x > 20, 700, 0)) + 60 * ball + rng.normal(0, 10, GEOMETRY.shape)
        write_image(folder / "images" / f"case_{seed}.nii.gz", hu[None].astype(np.int16), GEOMETRY)
        write_image(folder / "labels" / f"case_{seed}.nii.gz", ball[None].astype(np.uint8), GEOMETRY)
    table = {"channels": [channel], "labels": {"background": 0, "ball": 1}}
    (folder / "nnlite.json").write_text(json.dumps(table))
    return sorted((folder / "images").iterdir())


def test_a_network_is_trained_on_windows_and_predicts_with_them(tmp_path: Path):
    images = write_cases(tmp_path / "balls", range(5))
    options = {"work": tmp_path / "work", "device": "cpu"}
    plain = pipeline.plan(tmp_path / "balls", probe=False, **options).plan
    result = pipeline.plan(tmp_path / "balls", probe=False, hu_windows="lung,-160:240", hu_masks="200:", **options)
    plan, configuration = result.plan, result.plan.configuration("3d")
    assert plan.image_channels == ("CT", "lung", "-160:240", "200:")
    assert any("networks also see lung (window of CT from -1350 to 150 HU)" in note for note in result.notes)
    assert input_channels(plan, configuration) == 4
    assert costs(plan, 5)["3d"].predicted_gib > costs(plain, 5)["3d"].predicted_gib
    assert costs(plan, 5)["3d"].disk_gib > costs(plain, 5)["3d"].disk_gib

    pipeline.train(tmp_path / "balls", "3d", ("all",), epochs=1, iterations=2, augmentation="ct", **options)
    case = CaseStore(tmp_path / "work" / "balls" / "cases" / "3d").open("case_0")
    assert case.image.shape[0] == 4
    assert np.abs(case.image[1][:, :, :4] - (-0.4)).max() < 0.1  # air at -900 HU, which CT itself is clipped above
    assert set(np.unique(case.image[3])) == {0, 1}

    [mask] = pipeline.predict(tmp_path / "balls", images[:1], tmp_path / "masks", **options).masks
    pipeline.export(tmp_path / "balls", tmp_path / "balls.nnlite", work=tmp_path / "work")
    [again] = pipeline.predict(tmp_path / "balls.nnlite", images[:1], tmp_path / "again", **options).masks
    assert np.array_equal(read_label(mask).array, read_label(again).array)


def test_windows_of_mr_are_refused_before_an_image_is_read(tmp_path: Path):
    for image in write_cases(tmp_path / "balls", range(3), channel="T1"):
        image.write_bytes(b"nothing that could be read")
    with pytest.raises(PlanError, match=r"made of CT, and none of the channels \(T1\) is; leave --hu-windows"):
        pipeline.plan(tmp_path / "balls", work=tmp_path / "work", device="cpu", hu_windows="lung")

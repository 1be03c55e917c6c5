"""CT and PET on grids of their own go the whole way, onto the grid of the channel that the user names."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import Geometry, read_label, write_image
from nnlite.errors import DatasetError, ImageError, UsageError

CT = Geometry(shape=(12, 24, 24), spacing_mm=(2.0, 1.0, 1.0))
PET = Geometry(shape=(8, 12, 12), spacing_mm=(3.0, 2.0, 2.0), origin_mm=(0.5, 0.5, 0.5))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three cases with a ball that both channels show, and that is drawn on the CT."""
    for number in range(3):
        centre = np.array([11.0, 10.0 + number, 12.0])
        for grid, suffix in ((CT, "0000"), (PET, "0001")):
            places = np.moveaxis(np.indices(grid.shape), 0, -1) * grid.spacing_mm + grid.origin_mm
            ball = np.linalg.norm(places - centre, axis=-1) < 5
            image = 100.0 * ball + np.random.default_rng(number).normal(0, 5, grid.shape)
            write_image(tmp_path / f"pet_ct/images/c{number}_{suffix}.nii.gz", image[None].astype(np.float32), grid)
            if grid is CT:
                write_image(tmp_path / f"pet_ct/labels/c{number}.nii.gz", ball[None].astype(np.uint8), grid)
    (tmp_path / "pet_ct/nnlite.json").write_text('{"channels": ["CT", "PET"], "labels": {"ball": 1}}')
    return tmp_path / "pet_ct"


def test_a_model_remembers_the_channel_whose_grid_the_others_are_brought_to(
    scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    options = {"work": tmp_path / "work", "device": "cpu"}
    with pytest.raises(DatasetError, match="--resample-channels-to CHANNEL"):
        pipeline.plan(scans, probe=False, **options)
    with pytest.raises(DatasetError, match="the reference channel MR is no channel; there are CT, PET"):
        pipeline.plan(scans, probe=False, resample_channels_to="MR", **options)
    planned = pipeline.plan(scans, probe=False, resample_channels_to="CT", **options)
    assert planned.plan.reference_channel == "CT"
    assert "PET is resampled onto the grid of CT (linear) in 3 cases" in planned.notes
    pipeline.train(scans, "3d", ("fold0",), epochs=1, iterations=5, **options)
    with caplog.at_level(logging.WARNING):
        [mask] = pipeline.predict(scans, sorted((scans / "images").glob("c0*")), tmp_path / "out", **options).masks
    assert "c0: PET resampled onto the grid of CT (linear)" in caplog.text
    assert read_label(mask).geometry.differences(CT) == []
    inputs = sorted((scans / "images").glob("c0*"))
    [other] = pipeline.predict(scans, inputs, tmp_path / "pet", resample_channels_to="PET", **options).masks
    assert read_label(other).geometry.differences(PET) == []
    with pytest.raises(UsageError, match="--resample-channels-to MR is no channel of this model; it has CT, PET"):
        pipeline.predict(scans, inputs, tmp_path / "no", resample_channels_to="MR", **options)
    assert "c0" in pipeline.report(scans, work=tmp_path / "work").path.read_text()


def test_a_model_of_one_grid_says_how_to_predict_channels_on_several(scans: Path, tmp_path: Path):
    options = {"work": tmp_path / "work", "device": "cpu"}
    for number in range(3):
        write_image(scans / f"images/c{number}_0001.nii.gz", np.zeros((1, *CT.shape), np.float32), CT)
    pipeline.plan(scans, probe=False, **options)
    pipeline.train(scans, "3d", ("all",), epochs=1, iterations=2, **options)
    write_image(tmp_path / "new/d_0000.nii.gz", np.ones((1, *CT.shape), np.float32), CT)
    write_image(tmp_path / "new/d_0001.nii.gz", np.ones((1, *PET.shape), np.float32), PET)
    with pytest.raises(ImageError, match="with --resample-channels-to CHANNEL"):
        pipeline.predict(scans, [tmp_path / "new"], tmp_path / "out", **options)
    masks = pipeline.predict(scans, [tmp_path / "new"], tmp_path / "out", resample_channels_to="CT", **options).masks
    assert [mask.name for mask in masks] == ["d.nii.gz"]

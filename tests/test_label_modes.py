"""Regions, ignored voxels and both together go the whole way: plan, train, select, predict, evaluate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import read_image, read_label, write_image

REGIONS = {"background": 0, "ball": [1, 7], "core": 7}
PLAIN = {"background": 0, "ball": 1, "core": 7}
IGNORE = {"ignore": 9}


def dataset(balls: Path, folder: Path, labels: dict[str, int | list[int]]) -> Path:
    """The balls with another table of labels; where it ignores a value, all but every third slice has that."""
    shutil.copytree(balls, folder)
    (folder / "nnlite.json").write_text(json.dumps({"channels": ["MR"], "labels": labels}))
    if "ignore" in labels:
        for path in (folder / "labels").iterdir():
            label = read_label(path)
            array = label.array.copy()
            array[:, np.arange(array.shape[1]) % 3 != 0] = 9
            write_image(path, array, label.geometry)
    return folder


@pytest.mark.parametrize("labels", [REGIONS, PLAIN | IGNORE, REGIONS | IGNORE])
def test_every_kind_of_label_goes_the_whole_way(labels, balls: Path, tmp_path: Path):
    data, work = dataset(balls, tmp_path / "data", labels), tmp_path / "work"
    halves = {"train": ["ball_0", "ball_1", "ball_2"], "val": ["ball_3", "ball_4"]}
    others = {"train": ["ball_3", "ball_4"], "val": ["ball_0", "ball_1", "ball_2"]}
    (tmp_path / "splits.json").write_text(json.dumps([halves, others]))
    splits = tmp_path / "splits.json"
    plan = pipeline.plan(data, work=work, device="cpu", probe=False, splits=splits).plan
    assert plan.labels.structures == ("ball", "core")
    folds = pipeline.train(data, "3d", ("folds",), work=work, device="cpu", epochs=2, iterations=15)
    assert all(fold.mean_dice is not None and fold.mean_dice > 0.1 for fold in folds)
    selection = pipeline.select(data, work=work, device="cpu").selection
    assert selection.labels == ("ball", "core")
    images = sorted((balls / "images").iterdir())
    result = pipeline.predict(data, images, tmp_path / "masks", work=work, device="cpu", probabilities=True)
    values = set(np.unique(np.stack([read_label(mask).array for mask in result.masks])).tolist())
    assert {0, 1} <= values <= {0, 1, 7}
    whole = read_image(tmp_path / "masks" / "ball_0.probabilities.nii").array
    assert len(whole) == plan.labels.outputs
    if plan.labels.regions:
        probable = np.where(whole[1] > 0.5, 7, np.where(whole[0] > 0.5, 1, 0))
    else:
        probable = np.array([0, 1, 7])[whole.argmax(axis=0)]
    unrepaired = pipeline.predict(data, images[:1], tmp_path / "raw", work=work, device="cpu", postprocessing=False)
    np.testing.assert_array_equal(read_label(unrepaired.masks[0]).array[0], probable)
    scores = pipeline.evaluate(data / "labels", tmp_path / "masks")
    assert scores.labels == ("ball", "core")
    assert scores.mean_dice > 0.1

"""From pictures of touching objects to maps of their numbers: what plan, train and predict leave."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread, imsave

from nnlite import pipeline
from nnlite.data.image import read_image
from nnlite.data.instances import Instances
from nnlite.data.records import read_record
from nnlite.evaluation.instance_scores import InstanceSummary
from nnlite.pipeline.instance_maps import instances_path, write_instances
from nnlite.pipeline.instance_request import InstanceChoice
from nnlite.preprocessing.store import CaseStore
from nnlite.workspace import Workspace

TRAINING = {"device": "cpu", "epochs": 1, "iterations": 2}


def nuclei(root: Path, *, numbered: bool) -> Path:
    """Four pictures, each of three disks; two of them nearly touch."""
    y, x = np.ogrid[:64, :64]
    for number in range(4):
        label = np.zeros((64, 64), dtype=np.uint16)
        for place, (row, column) in enumerate(((20, 14), (20, 34), (48, 40)), start=1):
            label[(y - row) ** 2 + (x - column - number) ** 2 <= 81] = 100 * place if numbered else 1
        grey = (np.random.default_rng(number).integers(0, 40, label.shape) + 180 * (label > 0)).astype(np.uint8)
        for folder, picture in (("images", grey), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            imsave(root / folder / f"n{number}.png", picture, check_contrast=False)
    if numbered:
        (root / "nnlite.json").write_text(json.dumps({"labels": {"nucleus": 1}, "instances": "numbered"}))
    return root


@pytest.mark.parametrize("numbered", [False, True], ids=["components", "numbered"])
def test_training_learns_the_border_and_leaves_maps_and_scores_of_single_objects(tmp_path: Path, numbered: bool):
    data, work = nuclei(tmp_path / "nuclei", numbered=numbered), tmp_path / "work"
    # a dataset that says what its instances are needs no option
    planned = pipeline.plan(data, work=work, device="cpu", probe=False, instances=None if numbered else "border")
    assert planned.plan.labels.instances == Instances(numbered=numbered, border_px=3)
    assert "instances" in planned.plan.reasons
    [result] = pipeline.train(data, "2d", ("fold0",), work=work, **TRAINING)
    workspace = Workspace(root=work, dataset="nuclei")
    run = workspace.run("2d", "fold0")
    label = CaseStore(workspace.cases("2d")).open("n0").label
    assert label is not None
    assert set(np.unique(label)) == {0, 1, 2}
    columns = np.flatnonzero((label[0] == 2).any(axis=0))
    assert 20 < columns.min() < columns.max() < 28  # where disks of 9 pixels around columns 14 and 34 meet
    held_out = sorted(path.name for path in run.validation.iterdir())
    cases = sorted({name.split(".")[0] for name in held_out})
    assert held_out == sorted(f"{case}{end}" for case in cases for end in (".instances.png", ".png"))
    for case in cases:
        mask, numbers = (imread(run.validation / f"{case}{end}") for end in (".png", ".instances.png"))
        assert np.array_equal(mask > 0, numbers > 0)
        assert numbers.dtype == np.uint16
    with run.instance_scores.open() as file:
        assert [int(row["true_instances"]) for row in csv.DictReader(file)] == [3] * len(cases)
    assert result.instances == read_record(run.instance_summary, InstanceSummary)


@pytest.mark.parametrize(("way", "told"), [("border", False), ("distance", True)])
def test_border_weights_that_take_touching_cells_as_one_are_warned_of(
    way: InstanceChoice, told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data, work = nuclei(tmp_path / "nuclei", numbered=True), tmp_path / "work"
    pipeline.plan(data, work=work, device="cpu", probe=False, instances=way)
    pipeline.train(data, "2d", ("all",), work=work, loss="border-weighted+dice", **TRAINING)
    assert ("takes cells that touch as one" in caplog.text) == told


def test_predict_writes_the_numbers_beside_the_mask_and_they_are_scored(tmp_path: Path):
    data, work = nuclei(tmp_path / "nuclei", numbered=False), tmp_path / "work"
    planned = pipeline.plan(data, work=work, device="cpu", probe=False, instances="distance")
    assert planned.plan.labels.outputs == 2
    pipeline.train(data, "2d", ("all",), work=work, **TRAINING)
    pipeline.predict(data, [data / "images"], tmp_path / "out", work=work, device="cpu", mirroring=False)
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".png")
    assert names == sorted(f"n{number}{end}" for number in range(4) for end in (".png", ".instances.png"))
    scores = pipeline.evaluate_instances(data / "labels", tmp_path / "out", output=tmp_path / "scores")
    assert [row.true_instances for row in scores.rows] == [3] * 4
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == ["instances.csv", "instances.json"]


def test_a_map_goes_with_the_mask_that_it_belongs_to(tmp_path: Path):
    data, work, out = nuclei(tmp_path / "nuclei", numbered=False), tmp_path / "work", tmp_path / "out"
    for way, name in (("distance", None), ("none", "plain")):
        pipeline.plan(data, work=work, device="cpu", probe=False, instances=way, variant=name)
        pipeline.train(data, f"2d@{name}" if name else "2d", ("all",), work=work, **TRAINING)

    def predict(images: list[Path], configuration: str) -> set[str]:
        options = {"work": work, "device": "cpu", "mirroring": False}
        pipeline.predict(data, images, out, configuration=configuration, **options)
        return {path.name for path in out.iterdir() if path.suffix == ".png"}

    first, other = (data / "images" / f"n{number}.png" for number in range(2))
    both = {"n0.png", "n0.instances.png", "n1.png", "n1.instances.png"}
    assert predict([first, other], "2d") == both
    assert predict([first], "2d@plain") == both - {"n0.instances.png"}
    (out / "n1.png").unlink()  # without a mask, nobody knows whose the map is
    assert predict([other], "2d@plain") == both - {"n0.instances.png"}


def test_numbers_are_16_bit_and_more_of_them_32(tmp_path: Path):
    imsave(tmp_path / "a.tif", np.zeros((300, 300), dtype=np.uint8), check_contrast=False)
    grid = read_image(tmp_path / "a.tif").stored
    path = instances_path(tmp_path, "a", grid)
    assert path.name == "a.instances.tif"
    many = np.arange(90_000, dtype=np.int32).reshape(1, 300, 300)
    for numbers, kind in ((many, np.uint32), (many % 7, np.uint16)):
        write_instances(path, numbers, grid)
        assert imread(path).dtype == kind
        assert np.array_equal(imread(path), numbers[0])

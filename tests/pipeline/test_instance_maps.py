"""From pictures of touching objects to maps of their numbers: what plan, train and predict leave."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread, imsave

from nnlite import pipeline
from nnlite.data.image import Geometry, read_image, read_label, write_image
from nnlite.data.instances import Instances
from nnlite.data.records import read_record, write_record
from nnlite.data.split import make_splits
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


def test_scoring_goes_on_where_it_stopped_and_predicts_again_where_a_map_is_missing(tmp_path: Path):
    data, work = nuclei(tmp_path / "nuclei", numbered=False), tmp_path / "work"
    pipeline.plan(data, work=work, device="cpu", probe=False, instances="distance")
    workspace = Workspace(root=work, dataset="nuclei")
    write_record(workspace.splits, make_splits([f"n{number}" for number in range(4)], folds=2))
    pipeline.train(data, "2d", ("fold0",), work=work, **TRAINING)
    run = workspace.run("2d", "fold0")
    gone, kept = sorted(run.validation.glob("*.instances.png"))
    map_before, scores_before = gone.read_bytes(), run.instance_scores.read_text()
    written = kept.stat().st_mtime_ns
    gone.unlink()
    run.summary.unlink()  # as if it had been stopped before the scores were written
    pipeline.train(data, "2d", ("fold0",), work=work, **TRAINING)
    assert gone.read_bytes() == map_before
    assert kept.stat().st_mtime_ns == written
    assert run.instance_scores.read_text() == scores_before


def spheres(root: Path) -> Path:
    """Four volumes, each of three balls; two of them are 1 voxel apart. Slices are thicker than pixels are wide."""
    geometry = Geometry(shape=(12, 24, 32), spacing_mm=(2.0, 1.0, 1.0), origin_mm=(5.0, -3.0, 7.5))
    z, y, x = np.ogrid[:12, :24, :32]
    for number in range(4):
        label = np.zeros(geometry.shape, dtype=np.uint8)
        for row, column in ((8, 7), (8, 17), (16, 26)):
            label[4 * (z - 6) ** 2 + (y - row) ** 2 + (x - column) ** 2 < 25] = 1
        image = 180.0 * label + np.random.default_rng(number).normal(0, 10, geometry.shape)
        write_image(root / "images" / f"s{number}.nii.gz", image[None].astype(np.float32), geometry)
        write_image(root / "labels" / f"s{number}.nii.gz", label[None], geometry)
    return root


def test_a_border_in_volumes_is_learned_scored_exported_and_told_apart_in_new_ones(tmp_path: Path):
    data, work = spheres(tmp_path / "spheres"), tmp_path / "work"
    pipeline.plan(data, work=work, device="cpu", probe=False, instances="border")
    [result] = pipeline.train(data, "3d", ("fold0",), work=work, **{**TRAINING, "epochs": 2, "iterations": 15})
    workspace = Workspace(root=work, dataset="spheres")
    [held_out] = workspace.run("3d", "fold0").validation.glob("*.instances.nii.gz")
    case = held_out.name.split(".")[0]
    assert result.instances is not None
    assert result.instances.true_instances == 3
    page = pipeline.report(data, work=work).path.read_text(encoding="utf-8")
    assert '<th scope="row">3d</th><td class="number">3</td>' in page  # the objects that fold0 held out
    stored = CaseStore(workspace.cases("3d")).open(case).label
    assert stored is not None
    assert set(np.unique(stored)) == {0, 1, 2}
    truth = data / "labels" / f"{case}.nii.gz"

    def predicted(model: Path, out: Path) -> np.ndarray:
        pipeline.predict(model, [data / "images" / f"{case}.nii.gz"], out, work=work, device="cpu", mirroring=False)
        mask, numbers = (read_label(out / f"{case}{end}.nii.gz") for end in ("", ".instances"))
        assert numbers.geometry.differences(read_label(truth).geometry) == []
        assert mask.array.any()
        np.testing.assert_array_equal(numbers.array > 0, mask.array == 1)
        return numbers.array

    pipeline.export(data, tmp_path / "spheres.nnlite", work=work)
    maps = predicted(data, tmp_path / "trained"), predicted(tmp_path / "spheres.nnlite", tmp_path / "exported")
    np.testing.assert_array_equal(*maps)
    scores = pipeline.evaluate_instances(truth, tmp_path / "exported" / f"{case}.nii.gz")
    assert [row.predicted_instances for row in scores.rows] == [int(maps[0].max())]


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

"""The record beside a mask tells what to expect of it, what is unusual, what made it; and why something is missing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import read_image, read_label, write_image
from nnlite.data.records import read_record, write_record
from nnlite.evaluation.reliability import LabelCalibration
from nnlite.inference.postprocess import Postprocessing, Rule
from nnlite.pipeline.case_record import CaseRecord, record_path
from nnlite.pipeline.selection import Selection
from nnlite.workspace import Workspace

CALIBRATION = LabelCalibration(
    intercept=0.1,
    weights={"estimated_dice": 0.5, "flip_agreement": 0.25},
    cases=20,
    mean_dice=0.8,
    spearman=0.5,
    mean_absolute_error=0.04,
    error_of_the_mean=0.06,
    not_predicted=3,
    missed=2,
)


@pytest.fixture
def workspace(cross_validated_work: Path, tmp_path: Path) -> Workspace:
    return Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")


def predict(model: Path, image: Path, workspace: Workspace, **options: object) -> CaseRecord:
    """Predict an image; its record as it was returned, which is what was written."""
    out = workspace.root.parent / "out"
    arguments: dict[str, object] = {"work": workspace.root, "device": "cpu", **options}
    [record] = pipeline.predict(model, [image], out, **arguments).records  # type: ignore[arg-type]
    assert read_record(record_path(out, record.case), CaseRecord) == record
    return record


def test_a_selected_model_tells_the_calibrated_dice(balls: Path, workspace: Workspace):
    selected = pipeline.select(balls, work=workspace.root, most=1, device="cpu").selection
    write_record(workspace.selection, replace(selected, reliability={"ball": CALIBRATION}))
    image = balls / "images" / "ball_0.nii.gz"
    record = predict(balls, image, workspace)
    ball, core = record.labels["ball"], record.labels["core"]
    known = ball.features
    assert known.estimated_dice is not None
    assert known.flip_agreement is not None
    expected = 0.1 + 0.5 * known.estimated_dice + 0.25 * known.flip_agreement
    assert (ball.expected_dice, ball.expected_error) == (pytest.approx(min(expected, 1)), 0.04)
    assert ball.remark == ""
    assert known.fold_agreement is not None
    assert core.expected_dice is None
    assert "too few held-out cases" in core.remark or "not predicted" in core.remark
    mask = read_label(workspace.root.parent / "out" / "ball_0.nii.gz")
    assert ball.voxels == np.count_nonzero(mask.array == 1)
    assert ball.volume_ml == pytest.approx(ball.voxels * 2.0 * 1.5 * 1.5 / 1000)
    by = record.predicted_by
    assert (by.dataset, by.configurations, by.folds) == ("balls", ("3d",), ("fold0", "fold1"))
    assert by.selection == str(workspace.selection)
    assert set(by.versions) == {"nnlite", "torch"}
    without = predict(balls, image, workspace, mirroring=False).labels["ball"]
    assert without.expected_dice is None
    assert "predict with mirroring" in without.remark
    assert read_record(workspace.selection, Selection).reliability == {"ball": CALIBRATION}


def test_a_dice_is_expected_of_masks_alone_that_are_made_as_those_it_was_fitted_to(balls: Path, workspace: Workspace):
    selected = pipeline.select(balls, work=workspace.root, most=1, device="cpu").selection
    nothing_left = Postprocessing(rules=(Rule(operation="minimum_size", label="ball", minimum_size=1e6),))
    write_record(workspace.selection, replace(selected, postprocessing=nothing_left, reliability={"ball": CALIBRATION}))
    image = balls / "images" / "ball_0.nii.gz"
    removed = predict(balls, image, workspace).labels["ball"]
    assert removed.features.estimated_dice is not None  # the network did find it
    assert (removed.voxels, removed.expected_dice, removed.expected_error) == (0, None, None)
    assert removed.remark == "not predicted: nothing of it is left in the finished mask"
    kept = predict(balls, image, workspace, postprocessing=False).labels["ball"]
    assert kept.voxels > 0
    assert kept.expected_dice is None
    assert kept.remark == "not calibrated: held-out cases were predicted without --no-postprocessing; leave that out"
    write_record(
        workspace.selection, replace(selected, postprocessing=Postprocessing(), reliability={"ball": CALIBRATION})
    )
    assert predict(balls, image, workspace, postprocessing=False).labels["ball"].remark == ""  # no rule was left out


def test_a_model_that_was_not_selected_says_that_it_is_not_calibrated(balls: Path, workspace: Workspace):
    image = balls / "images" / "ball_0.nii.gz"
    record = predict(balls, image, workspace, configuration="3d", mirroring=False)
    assert record.labels["ball"].expected_dice is None
    assert "nnlite select did not choose this model" in record.labels["ball"].remark
    assert record.predicted_by.selection is None
    assert record.unusual == ()


def test_a_run_on_its_own_knows_no_training_images(balls: Path, workspace: Workspace, tmp_path: Path):
    alone = tmp_path / "alone"
    shutil.copytree(workspace.run("3d", "fold0").folder, alone)
    record = predict(alone, balls / "images" / "ball_0.nii.gz", workspace, mirroring=False)
    assert record.unusual == ()
    assert record.not_checked == ("all: there is no appearance.json of these channels",)


def test_an_unusual_image_is_told_of(balls: Path, workspace: Workspace, tmp_path: Path):
    image = read_image(balls / "images" / "ball_0.nii.gz")
    geometry = replace(image.geometry, spacing_mm=(4.0, 3.0, 3.0))
    write_image(tmp_path / "wrong.nii.gz", image.array, geometry)
    record = predict(balls, tmp_path / "wrong.nii.gz", workspace, configuration="3d", mirroring=False)
    assert {finding.check for finding in record.unusual} == {"spacing", "field of view"}
    assert any(reason.startswith("mirrored left to right") for reason in record.not_checked)

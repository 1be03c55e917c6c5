"""Which runs answer, what they write, and what they refuse."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import read_image, read_label
from nnlite.data.records import read_record, write_record
from nnlite.errors import CheckpointError, DatasetError, ImageError, UsageError, WorkspaceError
from nnlite.evaluation.scores import Summary
from nnlite.pipeline import case_steps
from nnlite.pipeline.predict_images import _overlapped
from nnlite.workspace import RunFolder, Workspace


@pytest.fixture
def workspace(trained_work: Path, tmp_path: Path) -> Workspace:
    """A copy of the trained workspace, to be changed at will."""
    return Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")


def predict(model: Path, balls: Path, workspace: Workspace, **options: object) -> pipeline.PredictResult:
    image, output = balls / "images" / "ball_0.nii.gz", workspace.root.parent / "out"
    arguments: dict[str, object] = {"work": workspace.root, "device": "cpu", "mirroring": False, **options}
    return pipeline.predict(model, [image], output, **arguments)  # type: ignore[arg-type]


def other_configuration(workspace: Workspace, mean_dice: float | None) -> RunFolder:
    """A run of another name with this score: a copy of 3d fold0."""
    run = workspace.run("2d", "fold0")
    shutil.copytree(workspace.run("3d", "fold0").folder, run.folder)
    summary = read_record(run.summary, Summary)
    write_record(run.summary, replace(summary, foreground={**summary.foreground, "dice": mean_dice}))
    return run


def test_masks_come_in_the_order_of_the_cases_with_their_times(balls: Path, workspace: Workspace):
    reported = []
    out = workspace.root.parent / "out"
    images = [balls / "images" / f"ball_{number}.nii.gz" for number in (3, 1)]
    result = pipeline.predict(
        balls,
        images,
        out,
        work=workspace.root,
        device="cpu",
        progress=lambda what, done, total: reported.append((what, done, total)),
    )
    assert sorted(result.masks) == [out / "ball_1.nii.gz", out / "ball_3.nii.gz"]
    assert all(mask.exists() for mask in result.masks)
    assert (result.configuration, result.folds) == ("3d", ("fold0", "fold1"))
    assert len(result.seconds_per_case) == 2
    assert reported == [("predict", 1, 2), ("predict", 2, 2)]


def test_a_held_out_case_is_predicted_as_it_was_scored(balls: Path, workspace: Workspace):
    run = workspace.run("3d", "fold0")
    [held_out] = run.validation.iterdir()
    out = workspace.root.parent / "out"
    pipeline.predict(run.folder, [balls / "images" / held_out.name], out, device="cpu")
    np.testing.assert_array_equal(read_label(out / held_out.name).array, read_label(held_out).array)


def test_probabilities_lie_on_the_image_s_grid_and_the_mask_is_where_they_are_highest(
    balls: Path, workspace: Workspace
):
    [mask_path] = predict(balls, balls, workspace, probabilities=True).masks
    probabilities = read_image(mask_path.parent / "ball_0.probabilities.nii")
    image, mask = read_image(balls / "images" / "ball_0.nii.gz"), read_label(mask_path)
    assert probabilities.geometry.differences(image.geometry) == []
    assert probabilities.stored.geometry.differences(image.stored.geometry) == []
    assert probabilities.array.shape == (3, *image.geometry.shape)
    np.testing.assert_allclose(probabilities.array.sum(axis=0), 1, atol=1e-5)
    highest = np.take_along_axis(probabilities.array, np.searchsorted([0, 1, 7], mask.array), axis=0)
    assert (highest >= probabilities.array.max(axis=0) - 1e-5).all()


def test_a_preview_lies_beside_the_mask_and_is_not_taken_for_one(balls: Path, workspace: Workspace):
    result = predict(balls, balls, workspace, previews=True)
    out = result.masks[0].parent
    assert (out / "ball_0.preview.png").stat().st_size > 1000
    scores = pipeline.evaluate(balls / "labels" / "ball_0.nii.gz", out)
    assert scores.cases == ("ball_0",)


@pytest.mark.parametrize(("dice", "chosen"), [(1.0, "2d"), (0.0, "3d"), (None, "3d")])
def test_the_configuration_with_the_best_held_out_dice_answers(
    balls: Path, workspace: Workspace, dice: float | None, chosen: str
):
    other_configuration(workspace, dice)
    runs = {run.folder for run in pipeline_runs(balls, workspace)}
    assert runs == {run.folder for run in workspace.existing_runs() if run.configuration == chosen}


def pipeline_runs(model: Path, workspace: Workspace) -> tuple[RunFolder, ...]:
    from nnlite.pipeline.choose_runs import choose_runs

    return choose_runs(model, workspace.root).members[0]


def test_a_run_that_was_not_finished_does_not_answer(balls: Path, workspace: Workspace):
    workspace.run("3d", "fold0").checkpoint_final.unlink()
    assert predict(balls, balls, workspace).folds == ("fold1",)
    with pytest.raises(CheckpointError, match=r"no model at .*fold0"):
        predict(workspace.run("3d", "fold0").folder, balls, workspace)
    workspace.run("3d", "fold1").checkpoint_final.unlink()
    with pytest.raises(CheckpointError, match="holds no finished training; run nnlite train first"):
        predict(balls, balls, workspace)


def test_folds_and_configurations_that_are_not_trained_are_refused(balls: Path, workspace: Workspace):
    with pytest.raises(UsageError, match="3d fold3 is not trained; trained are fold0, fold1"):
        predict(balls, balls, workspace, folds=("fold0", "fold3"))
    with pytest.raises(UsageError, match='no fold of "2d" is trained; trained are 3d'):
        predict(balls, balls, workspace, configuration="2d")
    assert predict(balls, balls, workspace, folds=("fold1",)).folds == ("fold1",)


@pytest.mark.parametrize("choice", [{"configuration": "2d"}, {"folds": ("fold0", "fold1")}])
def test_a_single_run_leaves_nothing_to_choose(balls: Path, workspace: Workspace, choice: dict[str, object]):
    with pytest.raises(UsageError, match="is the training 3d fold0 alone"):
        predict(workspace.run("3d", "fold0").folder, balls, workspace, **choice)


def test_a_dataset_that_is_gone_still_names_its_model(balls: Path, workspace: Workspace):
    assert predict(Path("gone/balls"), balls, workspace).configuration == "3d"
    with pytest.raises(UsageError, match=r'there is no model gone/cells: .* has no dataset "cells"'):
        predict(Path("gone/cells"), balls, workspace)


def test_a_dataset_with_a_name_of_its_own_is_found_in_the_workspace(balls: Path, workspace: Workspace, tmp_path: Path):
    data = Path(shutil.copytree(balls, tmp_path / "folder"))
    description = json.loads((data / "nnlite.json").read_text())
    (data / "nnlite.json").write_text(json.dumps({**description, "name": "balls"}))
    (workspace.folder / "dataset.json").unlink()
    assert predict(data, balls, workspace).configuration == "3d"


def test_the_model_of_another_dataset_of_the_same_name_is_not_taken(balls: Path, workspace: Workspace, tmp_path: Path):
    other = Path(shutil.copytree(balls, tmp_path / "balls"))
    with pytest.raises(WorkspaceError, match="was made from"):
        predict(other, balls, workspace)


def test_inputs_that_hold_no_image_are_refused(balls: Path, workspace: Workspace, tmp_path: Path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(DatasetError, match="notes is or holds no image"):
        pipeline.predict(balls, [tmp_path / "notes"], tmp_path / "out", work=workspace.root, device="cpu")


def test_a_broken_image_is_told_of_when_all_others_are_predicted(balls: Path, workspace: Workspace, tmp_path: Path):
    images = tmp_path / "images"
    shutil.copytree(balls / "images", images)
    broken = images / "ball_0.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"1 of 5 cases could not be predicted.*\n  ball_0: .*ball_0\.nii\.gz"):
        pipeline.predict(balls, [images], tmp_path / "out", work=workspace.root, device="cpu", mirroring=False)
    written = [f"ball_{n}.{suffix}" for n in (1, 2, 3, 4) for suffix in ("nii.gz", "prediction.json")]
    assert sorted(mask.name for mask in (tmp_path / "out").iterdir()) == written


def test_of_the_cases_to_come_one_is_read_ahead_and_no_more():
    begun: list[int] = []
    for number, future in enumerate(_overlapped(lambda item: begun.append(item) or item, range(5))):
        assert future.result() == number
        assert len(begun) <= number + 2
    assert begun == [0, 1, 2, 3, 4]


def test_a_fault_of_the_network_stops_the_prediction_and_the_mask_before_it_is_written(
    balls: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    predict_cases, calls = case_steps.predict_cases, []

    def fails_the_second_time(*arguments: object, **options: object) -> np.ndarray:
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("the device is gone")
        return predict_cases(*arguments, **options)

    monkeypatch.setattr(case_steps, "predict_cases", fails_the_second_time)
    images = [balls / "images" / f"ball_{number}.nii.gz" for number in (0, 1, 2)]
    with pytest.raises(RuntimeError, match="the device is gone"):
        pipeline.predict(balls, images, tmp_path / "out", work=workspace.root, device="cpu", mirroring=False)
    left = sorted(file.name for file in (tmp_path / "out").iterdir() if not file.name.startswith(".unfinished"))
    assert left == ["ball_0.nii.gz", "ball_0.prediction.json"]


def test_an_image_is_never_overwritten_by_its_mask(balls: Path, workspace: Workspace, tmp_path: Path):
    image = Path(shutil.copy(balls / "images" / "ball_0.nii.gz", tmp_path))
    before = image.read_bytes()
    with pytest.raises(UsageError, match="the mask of ball_0 would overwrite its image"):
        pipeline.predict(balls, [image], tmp_path, work=workspace.root, device="cpu")
    assert image.read_bytes() == before


@pytest.mark.parametrize("folder", [".", "balls/runs", "balls/runs/3d"])
def test_a_folder_above_the_runs_is_no_model(balls: Path, workspace: Workspace, folder: str):
    with pytest.raises(UsageError, match="is no model: give the dataset that was trained on"):
        predict(workspace.root / folder, balls, workspace)


def test_a_file_is_no_folder_for_masks(balls: Path, workspace: Workspace):
    image = balls / "images" / "ball_0.nii.gz"
    with pytest.raises(UsageError, match="is a file; give the folder for the masks"):
        pipeline.predict(balls, [image], image, work=workspace.root, device="cpu")

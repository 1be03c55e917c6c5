"""A CRF is tried on every held-out case, kept where it helps, and then applied to new images."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import write_real_ones

from nnlite import pipeline
from nnlite.data.image import Geometry, read_image, read_label, write_image
from nnlite.data.records import read_record, write_record
from nnlite.errors import MemoryShortError
from nnlite.evaluation import choose_crf as choices
from nnlite.evaluation.folders import evaluate_folders
from nnlite.inference.crf import CrfParameters
from nnlite.inference.crf_case import ProbabilityVolume
from nnlite.inference.postprocess import Postprocessing
from nnlite.pipeline import choose_crf
from nnlite.pipeline.choose_crf import choices_for
from nnlite.pipeline.model_file import read_model_file, write_model_file
from nnlite.pipeline.selection import Selection
from nnlite.workspace import Workspace

STRONG = CrfParameters(
    smoothness_weight=2, smoothness_mm=2, appearance_weight=10, appearance_mm=9, appearance_intensity=0.25
)


@pytest.fixture
def workspace(cross_validated_work: Path, tmp_path: Path) -> Workspace:
    return Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")


def select_with_verdict(
    balls: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, accepted: int | None
) -> Selection:
    """Select with a CRF, of whose choices this one is accepted: trained for seconds, networks leave that to chance."""

    def judge(*scored: Any) -> tuple[choices.CrfTrial, ...]:
        trials = enumerate(choices.judge_crf(*scored), start=1)
        return tuple(replace(trial, accepted=number == accepted) for number, trial in trials)

    monkeypatch.setattr(choose_crf, "judge_crf", judge)
    return pipeline.select(balls, work=workspace.root, most=1, crf=True, device="cpu").selection


def test_every_choice_is_scored_by_all_held_out_cases_and_further_rules_by_the_masks_of_the_accepted_one(
    balls: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    selection = select_with_verdict(balls, workspace, monkeypatch, accepted=2)
    assert [trial.parameters for trial in selection.crf_trials] == list(choices.crf_choices((2.0, 1.5, 1.5)))
    assert selection.crf_trials[0].mean_dice_before == pytest.approx(selection.mean_dice, abs=1e-5)
    trial = selection.crf_trials[1]
    assert selection.postprocessing.crf == trial.parameters
    assert [path.name for path in workspace.crf.iterdir()] == ["2"]
    masks = evaluate_folders(balls / "labels", workspace.crf / "2")
    assert masks.mean_dice == pytest.approx(trial.mean_dice_after, abs=1e-5)
    assert selection.trials[0].mean_dice_before == pytest.approx(trial.mean_dice_after, abs=1e-5)


def test_no_masks_of_a_crf_stay_where_none_is_accepted(
    balls: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    selection = select_with_verdict(balls, workspace, monkeypatch, accepted=None)
    assert len(selection.crf_trials) == 4
    assert selection.postprocessing.crf is None
    assert not workspace.crf.exists()
    assert selection.trials[0].mean_dice_before == pytest.approx(selection.mean_dice, abs=1e-5)


def test_distances_are_pixels_where_pictures_state_no_size(tmp_path: Path):
    mask = np.zeros((1, 2, 8, 8), np.uint8)
    flat, thick = (Geometry(shape=(depth, 8, 8), spacing_mm=(1.0, 1.0, 1.0)) for depth in (1, 2))
    write_image(tmp_path / "picture.png", mask[:, :1], flat, planar=True)
    write_image(tmp_path / "scan.nii.gz", mask, thick)
    picture, scan = (read_label(tmp_path / name) for name in ("picture.png", "scan.nii.gz"))
    assert {one.unit for one in choices_for(picture, (1.0, 1.0))} == {"pixels"}
    assert {one.unit for one in choices_for(picture, (0.0005, 0.0005))} == {"mm"}  # of a microscope
    assert choices_for(scan, (1.0, 1.0)) == choices.crf_choices((1.0, 1.0))
    assert {one.unit for one in choices.crf_choices((1.0, 1.0))} == {"mm"}


def test_without_the_option_none_is_tried(balls: Path, workspace: Workspace):
    selection = pipeline.select(balls, work=workspace.root, most=1, device="cpu").selection
    assert selection.crf_trials == ()
    assert selection.postprocessing.crf is None


def test_new_images_get_the_crf_that_was_selected_unless_it_is_not_wanted(
    balls: Path, workspace: Workspace, tmp_path: Path
):
    pipeline.select(balls, work=workspace.root, most=1, device="cpu")
    selection = read_record(workspace.selection, Selection)
    rules = replace(selection.postprocessing, rules=(), crf=STRONG)
    write_record(workspace.selection, replace(selection, postprocessing=rules))
    image = balls / "images" / "ball_0.nii.gz"
    options = {"work": workspace.root, "device": "cpu", "mirroring": False}
    result = pipeline.predict(balls, [image], tmp_path / "crf", probabilities=True, **options)
    assert result.records[0].predicted_by.postprocessing == (STRONG.in_words(),)
    plain = pipeline.predict(balls, [image], tmp_path / "plain", postprocessing=False, **options)
    drawn, before = (read_label(one.masks[0]).array for one in (result, plain))
    assert drawn.shape == before.shape
    assert (drawn != before).any()
    kept = read_image(tmp_path / "crf" / "ball_0.probabilities.nii").array  # as the networks said them
    assert np.array_equal(np.array([0, 1, 7])[kept.argmax(axis=0)], before[0])


def without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has memory for all but the probabilities of a case."""

    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 62.0 GiB for an array")

    monkeypatch.setattr(ProbabilityVolume, "__init__", full)


def test_a_new_image_without_room_for_its_probabilities_is_predicted_without_the_crf_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    write_real_ones(tmp_path)
    file = read_model_file(tmp_path / "archive")
    model = replace(file.model, postprocessing=Postprocessing(crf=STRONG))
    about: dict[str, Any] = {"appearance": None, "licence": "", "weights": [tmp_path / "model"], "versions": {}}
    write_model_file(tmp_path / "m.nnlite", model, file.plan, **about)
    grid = Geometry(shape=(20, 20, 20), spacing_mm=(1.0, 1.0, 1.0))
    noise = np.random.default_rng(0).normal(size=(1, *grid.shape)).astype(np.float32)
    write_image(tmp_path / "scan.nii.gz", noise, grid)
    without_room(monkeypatch)

    def predict(**options: bool) -> None:
        inputs = [tmp_path / "scan.nii.gz"]
        pipeline.predict(tmp_path / "m.nnlite", inputs, tmp_path / "out", device="cpu", mirroring=False, **options)

    told = r"scan: Unable to allocate 62\.0 GiB.*, for the dense CRF on .*: nnlite predict --no-postprocessing"
    with pytest.raises(MemoryShortError, match=told):
        predict()
    assert "trying again" not in caplog.text  # no retreat makes them smaller
    predict(postprocessing=False)


def test_held_out_cases_without_room_for_their_probabilities_are_selected_by_without_the_option(
    balls: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    without_room(monkeypatch)
    with pytest.raises(MemoryShortError, match=r"ball_\d: Unable to allocate 62\.0 GiB.* nnlite select without --crf"):
        pipeline.select(balls, work=workspace.root, most=1, crf=True, device="cpu")
    assert "trying again" not in caplog.text

"""Folders of masks: paired, scored by one thread or several, and everything that is refused."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from nnlite.data.image import Geometry, write_image
from nnlite.data.labels import Labels
from nnlite.errors import DatasetError
from nnlite.evaluation.folders import evaluate_folders

ORGANS = Labels(names=("background", "liver", "tumour"), values=(0, 1, 2))
GRID = Geometry(shape=(1, 2, 4), spacing_mm=(5.0, 2.0, 2.0))  # a voxel is 20 cubic millimetres, 0.02 ml
TRUTH = [[[0, 1, 1, 1], [0, 0, 2, 2]]]
PREDICTION = [[[0, 0, 1, 1], [0, 1, 2, 0]]]
# liver: truth 3, prediction 3, common 2: Dice 4/6; tumour: truth 2, prediction 1, common 1: Dice 2/3


def write(path: Path, mask: object, spacing_mm: tuple[float, float, float] = GRID.spacing_mm) -> None:
    array = np.array(mask, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, array[None], Geometry(shape=array.shape, spacing_mm=spacing_mm), planar=path.suffix == ".png")


def test_folders_are_scored_case_by_case_with_the_names_of_the_table(tmp_path: Path) -> None:
    for case, prediction in (("a", PREDICTION), ("b", TRUTH)):
        write(tmp_path / "truth" / f"{case}.nii.gz", TRUTH)
        write(tmp_path / "prediction" / f"{case}.nrrd", prediction)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 2}}))
    reports = []
    scores = evaluate_folders(
        tmp_path / "truth", tmp_path / "prediction", progress=lambda what, done, total: reports.append((done, total))
    )
    assert scores.cases == ("a", "b")
    assert scores.labels == ("liver", "tumour")
    assert [score.dice for score in scores.rows] == pytest.approx([2 / 3, 2 / 3, 1, 1])
    assert scores.rows[1].truth_ml == pytest.approx(0.04)
    assert scores.mean_dice == pytest.approx(5 / 6)
    assert reports == [(1, 2), (2, 2)]


def test_without_a_table_the_values_found_anywhere_are_the_labels(tmp_path: Path) -> None:
    write(tmp_path / "truth" / "a.png", [[[0, 255, 255, 0]]])
    write(tmp_path / "prediction" / "a.png", [[[0, 255, 0, 0]]])
    write(tmp_path / "truth" / "b.png", [[[0, 7, 7, 7]]])
    write(tmp_path / "prediction" / "b.png", [[[0, 7, 7, 7]]])
    scores = evaluate_folders(tmp_path / "truth", tmp_path / "prediction")
    assert [(score.case, score.label) for score in scores.rows] == [
        ("a", "label 7"),
        ("a", "label 255"),
        ("b", "label 7"),
        ("b", "label 255"),
    ]
    assert [score.dice for score in scores.rows] == pytest.approx([math.nan, 2 / 3, 1, math.nan], nan_ok=True)
    assert math.isnan(scores.rows[1].truth_ml)


def test_a_label_of_other_cases_only_scores_what_empty_masks_do(tmp_path: Path) -> None:
    for case, value in (("a", 1), ("b", 2)):
        write(tmp_path / "truth" / f"{case}.nii.gz", np.array(TRUTH) * value // 2)
        write(tmp_path / "prediction" / f"{case}.nii.gz", np.array(TRUTH) * value // 2)
    # a holds the values 0 and 1, b holds 0, 1 and 2
    scores = evaluate_folders(tmp_path / "truth", tmp_path / "prediction")
    absent = scores.rows[1]
    assert (absent.case, absent.label, absent.truth_voxels) == ("a", "label 2", 0)
    assert (absent.truth_ml, absent.volume_error_ml, absent.specificity) == (0, 0, 1)
    assert np.isnan([absent.dice, absent.hd_mm, absent.nsd, absent.lesion_f1]).all()


def test_the_tolerance_is_the_callers(tmp_path: Path) -> None:
    write(tmp_path / "truth.nii.gz", [[[0, 1, 1, 1, 0]]])
    write(tmp_path / "mine.nii.gz", [[[0, 0, 1, 1, 1]]])
    wide, narrow = (
        evaluate_folders(tmp_path / "truth.nii.gz", tmp_path / "mine.nii.gz", tolerance_mm=tolerance)
        for tolerance in (2, 1.9)
    )
    assert wide.rows[0].nsd == 1  # one pixel of 2 mm off
    assert narrow.rows[0].nsd < 1
    assert narrow.summary().tolerance_mm == 1.9


def test_threads_change_no_number_and_no_order(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for case in range(8):
        truth = np.repeat(np.repeat(generator.integers(0, 3, size=(4, 5, 6)), 2, axis=1), 3, axis=2)
        write(tmp_path / "truth" / f"{case}.nii.gz", truth)
        write(tmp_path / "prediction" / f"{case}.nii.gz", np.roll(truth, case, axis=2))
    folders = tmp_path / "truth", tmp_path / "prediction"
    alone, together = (evaluate_folders(*folders, labels=ORGANS, workers=workers) for workers in (1, 4))
    assert [(row.case, row.label) for row in alone.rows[:3]] == [("0", "liver"), ("0", "tumour"), ("1", "liver")]
    for one, other in zip(alone.rows, together.rows, strict=True):
        np.testing.assert_equal(asdict(one), asdict(other))


def test_faults_are_told_in_the_order_of_the_cases_whichever_thread_meets_them(tmp_path: Path) -> None:
    for case in "abcdef":
        write(tmp_path / "truth" / f"{case}.nii.gz", TRUTH)
        write(tmp_path / "prediction" / f"{case}.nii.gz", np.array(TRUTH) + 7)
    with pytest.raises(DatasetError) as caught:
        evaluate_folders(tmp_path / "truth", tmp_path / "prediction", labels=ORGANS, workers=3)
    assert [line.strip()[0] for line in str(caught.value).splitlines()[1:]] == list("abcdef")


def test_what_is_not_asked_for_is_not_computed_nor_counted_as_undefined(tmp_path: Path) -> None:
    write(tmp_path / "truth.nii.gz", TRUTH)
    write(tmp_path / "mine.nii.gz", PREDICTION)
    pair = tmp_path / "truth.nii.gz", tmp_path / "mine.nii.gz"
    everything, overlap = evaluate_folders(*pair), evaluate_folders(*pair, metrics=("overlap",))
    summary = overlap.summary()
    assert summary.metrics == ("overlap",)
    assert (summary.foreground["hd95_mm"], summary.foreground["lesion_f1"]) == (None, None)
    assert summary.foreground["dice"] == everything.summary().foreground["dice"]


def test_predictions_that_are_all_empty_score_zero_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for case in ("a", "b"):
        write(tmp_path / "truth" / f"{case}.nii.gz", TRUTH)
        write(tmp_path / "prediction" / f"{case}.nii.gz", np.zeros_like(TRUTH))
    rare = Labels(names=(*ORGANS.names, "cyst"), values=(0, 1, 2, 3))
    scores = evaluate_folders(tmp_path / "truth", tmp_path / "prediction", labels=rare)
    assert scores.mean_dice == 0
    summary = scores.summary()
    assert summary.labels["liver"].hd95_mm.mean is None
    assert summary.foreground["hd95_mm"] is None
    assert summary.foreground["nsd"] == 0
    told = [record.getMessage() for record in caplog.records]
    assert [message.split(":")[0] for message in told] == ["liver", "tumour", "cyst"]
    assert "in the truth of 2 cases but in no prediction; its Dice is 0" in told[0]
    assert "counts in no mean" in told[2]


def test_two_files_are_scored_as_one_case(tmp_path: Path) -> None:
    write(tmp_path / "truth.nii.gz", TRUTH)
    write(tmp_path / "mine.nii.gz", PREDICTION)
    scores = evaluate_folders(tmp_path / "truth.nii.gz", tmp_path / "mine.nii.gz", labels=ORGANS)
    assert [score.dice for score in scores.rows] == pytest.approx([2 / 3, 2 / 3])


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    truth, prediction = tmp_path / "truth", tmp_path / "prediction"
    for case in ("fine", "lost", "shifted", "smaller", "strange"):
        write(truth / f"{case}.nii.gz", TRUTH)
    write(prediction / "fine.nii.gz", TRUTH)
    write(prediction / "shifted.nii.gz", TRUTH, spacing_mm=(5.0, 2.0, 2.5))
    write(prediction / "smaller.nii.gz", [[[0, 1], [0, 2]]])
    write(prediction / "strange.nii.gz", np.array(TRUTH) + 7)
    with pytest.raises(DatasetError) as caught:
        evaluate_folders(truth, prediction, labels=ORGANS)
    first, *faults = str(caught.value).splitlines()
    assert first == "4 of 5 cases cannot be scored:"
    lost, shifted, smaller, strange = faults
    assert lost.startswith("  lost: no prediction")
    assert "prediction spacing (5, 2, 2.5) mm but truth spacing (5, 2, 2) mm" in shifted
    assert "resample the prediction" in shifted
    assert "prediction shape (1, 2, 2) but truth shape (1, 2, 4)" in smaller
    assert "strange.nii.gz: label values 7, 8, 9 are not in the label table" in strange


def test_missing_predictions_may_be_allowed(tmp_path: Path) -> None:
    for case in ("a", "b"):
        write(tmp_path / "truth" / f"{case}.nii.gz", TRUTH)
    write(tmp_path / "prediction" / "b.nii.gz", TRUTH)
    scores = evaluate_folders(tmp_path / "truth", tmp_path / "prediction", labels=ORGANS, allow_missing=True)
    assert scores.cases == ("b",)


def test_folders_without_a_common_name_are_refused_even_then(tmp_path: Path) -> None:
    write(tmp_path / "truth" / "a.nii.gz", TRUTH)
    write(tmp_path / "prediction" / "b.nii.gz", TRUTH)
    with pytest.raises(DatasetError, match="none of the 1 masks"):
        evaluate_folders(tmp_path / "truth", tmp_path / "prediction", allow_missing=True)


def test_an_image_in_place_of_a_mask_is_refused(tmp_path: Path) -> None:
    image = np.arange(-600, 600, dtype=np.int16).reshape(1, 1, 30, 40)
    write_image(tmp_path / "ct.nii.gz", image, Geometry(shape=(1, 30, 40), spacing_mm=(1.0, 1.0, 1.0)))
    with pytest.raises(DatasetError, match=r"1200 different values from -600 to 599.* is it an image"):
        evaluate_folders(tmp_path / "ct.nii.gz", tmp_path / "ct.nii.gz")


@pytest.mark.realdata
def test_a_real_mask_agrees_with_itself(real_data: Path) -> None:
    folder = real_data / "hippocampus"
    mask = sorted(folder.glob("labelsTr/*.nii.gz"))[0]
    scores = evaluate_folders(mask, mask)
    assert scores.labels == ("Anterior", "Posterior")
    assert scores.mean_dice == 1


def test_what_a_case_has_not_annotated_is_not_scored(tmp_path: Path) -> None:
    for case in "ab":
        write(tmp_path / "truth" / f"{case}.nii.gz", TRUTH if case == "a" else [[[0, 0, 0, 0], [0, 0, 2, 2]]])
        write(tmp_path / "prediction" / f"{case}.nii.gz", PREDICTION)
    said = {"labels": {"background": 0, "liver": 1, "tumour": 2}, "annotated": {"b": ["tumour"]}}
    (tmp_path / "nnlite.json").write_text(json.dumps(said))
    scores = evaluate_folders(tmp_path / "truth", tmp_path / "prediction")
    assert [(row.case, row.label) for row in scores.rows] == [("a", "liver"), ("a", "tumour"), ("b", "tumour")]
    assert scores.labels == ("liver", "tumour")
    assert scores.mean_dice == pytest.approx(2 / 3)  # of three rows; the liver of b would have been 0

"""Scores of tiny masks counted by hand, from arrays and from files, and everything that is refused."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite.data.image import Geometry, write_image
from nnlite.data.labels import Labels
from nnlite.errors import DatasetError
from nnlite.evaluation.scores import MEASURES, LabelScore, Scores, evaluate_folders

ORGANS = Labels(names=("background", "liver", "tumour"), values=(0, 1, 2))
GRID = Geometry(shape=(1, 2, 4), spacing_mm=(5.0, 2.0, 2.0))  # a voxel is 20 cubic millimetres, 0.02 ml
TRUTH = [[[0, 1, 1, 1], [0, 0, 2, 2]]]
PREDICTION = [[[0, 0, 1, 1], [0, 1, 2, 0]]]
# liver: truth 3, prediction 3, common 2: Dice 4/6, IoU 2/4, sensitivity 2/3, precision 2/3
# tumour: truth 2, prediction 1, common 1: Dice 2/3, IoU 1/2, sensitivity 1/2, precision 1


def write(path: Path, mask: object, spacing_mm: tuple[float, float, float] = GRID.spacing_mm) -> None:
    array = np.array(mask, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, array[None], Geometry(shape=array.shape, spacing_mm=spacing_mm), planar=path.suffix == ".png")


def row(case: str, label: str, dice: float) -> LabelScore:
    voxels = 0 if math.isnan(dice) else 1
    numbers = dict.fromkeys(MEASURES, dice) | {"truth_ml": 0.5, "prediction_ml": 0.5}
    return LabelScore(case=case, label=label, truth_voxels=voxels, prediction_voxels=voxels, **numbers)


def test_mean_dice_is_the_mean_over_labels_of_the_mean_over_cases_that_have_the_label() -> None:
    nan = math.nan
    scores = Scores(rows=(row("a", "x", 0.5), row("a", "y", nan), row("b", "x", 1.0), row("b", "y", 0.25)))
    # x: (0.5 + 1) / 2 = 0.75; y: 0.25 from the one case that has it; (0.75 + 0.25) / 2 = 0.5, not 1.75 / 3
    assert scores.mean_dice == pytest.approx(0.5)


def test_summary_gives_mean_and_median_of_each_label() -> None:
    dice = {"a": 0.0, "b": 0.6, "c": 0.9, "d": math.nan}
    scores = Scores(rows=tuple(row(case, "x", value) for case, value in dice.items()))
    summary = scores.summary()
    assert summary.cases == 4
    assert summary.labels["x"].cases == 3
    assert (summary.labels["x"].dice.mean, summary.labels["x"].dice.median) == pytest.approx((0.5, 0.6))
    assert summary.foreground["iou"] == pytest.approx(0.5)
    assert summary.labels["x"].hd95_mm.cases == 3


def test_a_label_that_no_case_has_drops_out() -> None:
    scores = Scores(rows=(row("a", "x", 0.5), row("a", "y", math.nan)))
    assert scores.mean_dice == 0.5
    assert scores.summary().labels["y"].dice.mean is None
    assert math.isnan(Scores(rows=(row("a", "y", math.nan),)).mean_dice)


def test_the_table_has_one_row_per_case_and_label() -> None:
    frame = Scores(rows=(row("a", "x", 0.5), row("a", "y", math.nan))).to_frame()
    assert frame["label"].tolist() == ["x", "y"]
    assert frame["dice"].isna().tolist() == [False, True]
    assert frame["truth_voxels"].tolist() == [1, 0]


def test_files_hold_what_was_scored(tmp_path: Path) -> None:
    scores = Scores(rows=(row("a", "x", 2 / 3), row("a", "y", math.nan)))
    scores.write(tmp_path / "new" / "scores.csv", tmp_path / "new" / "scores.json")
    with (tmp_path / "new" / "scores.csv").open() as file:
        x, y = csv.DictReader(file)
    assert (x["case"], x["label"], x["dice"], x["truth_voxels"]) == ("a", "x", "0.666667", "1")
    assert y["dice"] == ""
    content = json.loads((tmp_path / "new" / "scores.json").read_text(), parse_constant=pytest.fail)
    assert content["format_version"] == 1
    assert content["foreground"]["dice"] == pytest.approx(2 / 3)
    assert content["labels"]["y"]["dice"] == {"mean": None, "median": None, "cases": 0}
    assert content["tolerance_mm"] == 2
    assert content["foreground"].keys() == set(MEASURES) - {"truth_ml", "prediction_ml", "volume_error_ml"}


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


def count(label: str, truth: int, prediction: int) -> LabelScore:
    return replace(row("a", label, 0.5), truth_voxels=truth, prediction_voxels=prediction)


def test_labels_without_a_meaningful_mean_are_pointed_out() -> None:
    rows = (count("fine", 3, 2), count("absent", 0, 0), count("missed", 4, 0), count("made up", 0, 5))
    absent, missed, made_up = Scores(rows=rows).remarks()
    assert absent.startswith("absent: in no truth and in no prediction")
    assert missed.startswith("missed: in the truth of 1 case but in no prediction")
    assert made_up.startswith("made up: in no truth but in the prediction of 1 case")


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

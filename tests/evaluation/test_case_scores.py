"""Every number of one case: counted by hand, from MONAI, and for empty masks."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

from nnlite.data.image import NO_DEPTH_MM, Geometry
from nnlite.data.labels import Labels
from nnlite.evaluation.case_scores import DISTANCES, LESIONS, LabelScore, score_case

ORGANS = Labels(names=("background", "liver", "tumour"), values=(0, 1, 2))
LIVER = Labels(names=("background", "liver"), values=(0, 1))
GRID = Geometry(shape=(1, 2, 4), spacing_mm=(5.0, 2.0, 2.0))  # a voxel is 20 cubic millimetres, 0.02 ml
TRUTH = np.array([[[0, 1, 1, 1], [0, 0, 2, 2]]])
PREDICTION = np.array([[[0, 0, 1, 1], [0, 1, 2, 0]]])
# liver: truth 3, prediction 3, common 2: Dice 4/6, IoU 2/4, sensitivity 2/3, precision 2/3
# tumour: truth 2, prediction 1, common 1: Dice 2/3, IoU 1/2, sensitivity 1/2, precision 1


def score(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float, float], tolerance_mm: float = 2
) -> LabelScore:
    grid = Geometry(shape=truth.shape, spacing_mm=spacing_mm)
    masks = truth.astype(np.uint8), prediction.astype(np.uint8)
    (only,) = score_case("a", *masks, LIVER, grid, tolerance_mm=tolerance_mm)
    return only


def test_a_case_is_scored_label_by_label() -> None:
    liver, tumour = score_case("a", TRUTH, PREDICTION, ORGANS, GRID)
    assert (liver.case, liver.label, tumour.label) == ("a", "liver", "tumour")
    assert (liver.dice, liver.iou, liver.sensitivity, liver.precision) == pytest.approx((2 / 3, 1 / 2, 2 / 3, 2 / 3))
    assert (tumour.dice, tumour.iou, tumour.sensitivity, tumour.precision) == pytest.approx((2 / 3, 1 / 2, 1 / 2, 1))
    assert (liver.specificity, tumour.specificity) == pytest.approx((4 / 5, 1))  # of 5 voxels without liver, of 6
    assert (liver.truth_voxels, liver.prediction_voxels) == (3, 3)
    assert (tumour.truth_voxels, tumour.prediction_voxels) == (2, 1)
    assert (tumour.truth_ml, tumour.prediction_ml, tumour.volume_error_ml) == pytest.approx((0.04, 0.02, -0.02))


def test_a_box_that_is_one_slice_off() -> None:
    truth, prediction = np.zeros((2, 12, 12, 12), dtype=np.uint8)
    truth[2:6, 2:10, 2:10] = prediction[3:7, 2:10, 2:10] = 1
    shifted = score(truth, prediction, (3.0, 1.0, 1.0))
    assert shifted.dice == pytest.approx(3 / 4)
    assert shifted.hd_mm == shifted.hd95_mm == 3
    assert shifted.centre_distance_mm == pytest.approx(3)
    assert 0 < shifted.asd_mm < 3
    assert 0 < shifted.nsd < 1  # the sides lie on each other, top and bottom are more than 2 mm off
    assert score(truth, prediction, (3.0, 1.0, 1.0), tolerance_mm=3).nsd == 1
    assert (shifted.lesion_f1, shifted.lesion_sensitivity, shifted.lesion_dice) == pytest.approx((1, 1, 3 / 4))


def test_an_island_far_away_is_seen_by_the_distances_and_the_lesions() -> None:
    truth = np.zeros((4, 4, 30), dtype=np.uint8)
    truth[1:3, 1:3, 1:5] = 1
    prediction = truth.copy()
    prediction[1, 1, 25] = 1
    stray = score(truth, prediction, (1.0, 1.0, 2.0))
    assert stray.hd_mm == (26 - 5) * 2  # corners after voxel 25 and after voxel 4
    assert stray.lesion_f1 == pytest.approx(2 / 3)
    assert stray.lesion_sensitivity == 1
    assert stray.lesion_dice == pytest.approx(1 / 2)


# computed with MONAI 1.6.1 from the masks of the test below; its surface Dice with use_subvoxels=True, as float32
MONAI = {
    "dice": 0.7085714,
    "iou": 0.5486726,
    "sensitivity": 0.7118255,
    "specificity": 0.9732687,
    "precision": 0.7053470,
    "hd_mm": 10.9073367,
}
MONAI_SURFACE_DICE = {0.5: 0.3090208, 1.0: 0.5703988, 2.0: 0.8820127}


def ellipsoid(centre: tuple[int, int, int]) -> np.ndarray:
    axes = np.ogrid[:20, :24, :22]
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, (5, 7, 6), strict=True)) < 1


@pytest.mark.parametrize("tolerance_mm", MONAI_SURFACE_DICE)
def test_two_ellipsoids_score_what_monai_says(tolerance_mm: float) -> None:
    truth, prediction = ellipsoid((9, 12, 11)), ellipsoid((10, 12, 9))
    prediction[2:4, 2:4, 2:4] = True
    ours = score(truth, prediction, (2.5, 0.8, 0.8), tolerance_mm)
    assert {name: getattr(ours, name) for name in MONAI} == pytest.approx(MONAI, abs=1e-6)
    assert ours.nsd == pytest.approx(MONAI_SURFACE_DICE[tolerance_mm], abs=1e-6)


def test_pictures_have_voxels_and_distances_in_pixels_but_no_volume() -> None:
    grid = Geometry(shape=(1, 2, 4), spacing_mm=(NO_DEPTH_MM, 1.0, 1.0))
    liver, tumour = score_case("a", TRUTH, PREDICTION, ORGANS, grid)
    assert liver.truth_voxels == 3
    assert np.isnan([liver.truth_ml, liver.prediction_ml, liver.volume_error_ml]).all()
    assert tumour.hd_mm == 1
    assert tumour.centre_distance_mm == pytest.approx(0.5)


def test_a_single_slice_is_compared_in_its_plane() -> None:
    truth, prediction = np.zeros((2, 1, 12, 12), dtype=np.uint8)
    truth[0, 2:8, 2:8] = prediction[0, 2:8, 3:9] = 1
    thick, thin = score(truth, prediction, (8.0, 2.0, 2.0)), score(truth, prediction, (0.1, 2.0, 2.0))
    assert thick.hd_mm == 2
    assert (thick.asd_mm, thick.nsd) == (thin.asd_mm, thin.nsd)


@pytest.mark.parametrize("across", [1, 2])
def test_a_single_coronal_or_sagittal_slice_is_compared_as_an_axial_one(across: int) -> None:
    truth, prediction = np.zeros((2, 1, 12, 12), dtype=np.uint8)
    truth[0, 2:8, 2:8] = prediction[0, 1:10, 3:11] = 1
    axial = score(truth, prediction, (8.0, 2.0, 3.0))
    turned = [np.moveaxis(mask, 0, across) for mask in (truth, prediction)]
    spacing_mm = (2.0, 8.0, 3.0) if across == 1 else (2.0, 3.0, 8.0)
    assert asdict(score(*turned, spacing_mm)) == pytest.approx(asdict(axial))


NOTHING = np.zeros((4, 4, 4), dtype=bool)
SOMETHING = np.pad(np.ones((2, 2, 2), dtype=bool), 1)
UNDEFINED_DISTANCES = dict.fromkeys(("hd_mm", "hd95_mm", "asd_mm", "centre_distance_mm"), math.nan)


def without_names(score: LabelScore) -> dict[str, float]:
    return {name: value for name, value in asdict(score).items() if name not in ("case", "label")}


def test_a_label_that_is_missed_scores_zero_and_has_no_distance() -> None:
    assert without_names(score(SOMETHING, NOTHING, (10.0, 10.0, 10.0))) == pytest.approx(
        {
            **dict.fromkeys(("dice", "iou", "sensitivity", "nsd", "lesion_f1", "lesion_sensitivity", "lesion_dice"), 0),
            **{"specificity": 1, "precision": math.nan, "truth_voxels": 8, "prediction_voxels": 0},
            **{"truth_ml": 8, "prediction_ml": 0, "volume_error_ml": -8},
            **UNDEFINED_DISTANCES,
        },
        nan_ok=True,
    )


def test_a_label_that_is_made_up_scores_zero_and_has_no_distance() -> None:
    assert without_names(score(NOTHING, SOMETHING, (10.0, 10.0, 10.0))) == pytest.approx(
        {
            **dict.fromkeys(("dice", "iou", "precision", "nsd", "lesion_f1", "lesion_dice"), 0),
            **{"specificity": 56 / 64, "sensitivity": math.nan, "lesion_sensitivity": math.nan},
            **{"truth_voxels": 0, "prediction_voxels": 8},
            **{"truth_ml": 0, "prediction_ml": 8, "volume_error_ml": 8},
            **UNDEFINED_DISTANCES,
        },
        nan_ok=True,
    )


def test_a_label_that_is_rightly_absent_is_neither_success_nor_failure() -> None:
    shares = ("dice", "iou", "sensitivity", "precision", "nsd", "lesion_f1", "lesion_sensitivity", "lesion_dice")
    assert without_names(score(NOTHING, NOTHING, (10.0, 10.0, 10.0))) == pytest.approx(
        {
            **dict.fromkeys(shares, math.nan),
            **{"specificity": 1, "truth_voxels": 0, "prediction_voxels": 0},
            **{"truth_ml": 0, "prediction_ml": 0, "volume_error_ml": 0},
            **UNDEFINED_DISTANCES,
        },
        nan_ok=True,
    )


@pytest.mark.parametrize("metrics", [("overlap",), ("distances",), ("lesions",)])
def test_each_kind_of_metric_is_the_same_alone_as_with_the_others(metrics: tuple[str, ...]) -> None:
    kinds = {"distances": DISTANCES, "lesions": LESIONS}
    for alone, with_others in zip(
        score_case("a", TRUTH, PREDICTION, ORGANS, GRID, metrics=metrics),
        score_case("a", TRUTH, PREDICTION, ORGANS, GRID),
        strict=True,
    ):
        left_out = [name for kind, names in kinds.items() if kind not in metrics for name in names]
        np.testing.assert_equal(asdict(alone), asdict(with_others) | dict.fromkeys(left_out, math.nan))


def test_where_in_the_image_a_structure_lies_changes_nothing_but_the_specificity() -> None:
    truth, prediction = np.random.default_rng(4).random((2, 4, 5, 6)) < 0.4
    inside = score(truth, prediction, (3.0, 1.0, 0.5))
    margin = ((2, 9), (7, 0), (1, 4))
    elsewhere = score(np.pad(truth, margin), np.pad(prediction, margin), (3.0, 1.0, 0.5))
    # 4 x 5 x 6 voxels of which all that are added are background in both masks
    added = 15 * 12 * 11 - 120
    spared = 120 - np.count_nonzero(truth | prediction)
    made_up = np.count_nonzero(prediction & ~truth)
    assert elsewhere.specificity == pytest.approx((spared + added) / (spared + added + made_up))
    assert asdict(elsewhere) | {"specificity": inside.specificity} == pytest.approx(asdict(inside))


def test_regions_are_scored_in_place_of_labels() -> None:
    labels = Labels.from_table({"organ": [1, 2], "tumour": 2})
    organ, tumour = score_case("a", TRUTH, PREDICTION, labels, GRID)
    # organ: truth 5, prediction 4, common 3 (of them two called liver, one tumour)
    assert (organ.label, organ.truth_voxels, organ.prediction_voxels) == ("organ", 5, 4)
    assert (organ.dice, organ.sensitivity, organ.precision) == pytest.approx((6 / 9, 3 / 5, 3 / 4))
    assert asdict(tumour) == pytest.approx(asdict(score_case("a", TRUTH, PREDICTION, ORGANS, GRID)[1]), nan_ok=True)


def test_what_the_truth_ignores_counts_nowhere() -> None:
    labels = Labels(names=ORGANS.names, values=ORGANS.values, ignore=3)
    beside = np.full((1, 2, 3), 3)
    truth = np.concatenate([TRUTH, beside], axis=2)
    wider = Geometry(shape=truth.shape, spacing_mm=GRID.spacing_mm)
    for said in (0, 1, 2):
        prediction = np.concatenate([PREDICTION, np.full_like(beside, said)], axis=2)
        for ours, alone in zip(
            score_case("a", truth, prediction, labels, wider),
            score_case("a", TRUTH, PREDICTION, ORGANS, GRID),
            strict=True,
        ):
            assert asdict(ours) == pytest.approx(asdict(alone), nan_ok=True)


def test_what_the_prediction_alone_ignores_is_background() -> None:
    labels = Labels(names=ORGANS.names, values=ORGANS.values, ignore=3)
    leaves_open = np.where(PREDICTION == 2, 3, PREDICTION)
    rows = score_case("a", TRUTH, leaves_open, labels, GRID)
    without = score_case("a", TRUTH, np.where(PREDICTION == 2, 0, PREDICTION), ORGANS, GRID)
    assert [asdict(row) for row in rows] == [pytest.approx(asdict(row), nan_ok=True) for row in without]


def test_structures_that_nobody_drew_have_no_row() -> None:
    [tumour] = score_case("a", TRUTH, PREDICTION, ORGANS, GRID, annotated=(False, True))
    assert asdict(tumour) == pytest.approx(asdict(score_case("a", TRUTH, PREDICTION, ORGANS, GRID)[1]), nan_ok=True)
    regions = Labels.from_table({"organ": [1, 2], "tumour": 2})
    [organ] = score_case("a", TRUTH, PREDICTION, regions, GRID, annotated=(True, False))
    assert (organ.label, organ.dice) == ("organ", pytest.approx(2 * 3 / (5 + 4)))

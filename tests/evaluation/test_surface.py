"""Surfaces measured by hand, against the surface-distance package on noise and on real masks, and empty ones."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import nnlite.evaluation.surface as surface
from nnlite.data.image import read_label
from nnlite.evaluation.surface import SurfaceDistances, element_areas, find_surfaces, surface_distances

TOLERANCES_MM = (0.5, 1.0, 2.0)

# surface-distance 0.1 calls scipy by names of old
quietly = pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage` namespace:DeprecationWarning")


def one_label(truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...]) -> SurfaceDistances:
    return surface_distances(truth.astype(np.uint8), prediction.astype(np.uint8), spacing_mm, count=2)[1]


def voxel(shape: tuple[int, ...], at: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[at] = True
    return mask


def numbers(distances: SurfaceDistances) -> list[float]:
    return [
        distances.hausdorff_mm(),
        distances.hausdorff_mm(95),
        distances.hausdorff_mm(50),
        distances.average_mm(),
        *(distances.surface_dice(tolerance) for tolerance in TOLERANCES_MM),
    ]


def reference(
    package: ModuleType, truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...]
) -> list[float]:
    """The same numbers from the surface-distance package; its two averages are pooled by area."""
    found = package.compute_surface_distances(truth, prediction, spacing_mm)
    averages = package.compute_average_surface_distance(found)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    return [
        *(package.compute_robust_hausdorff(found, percent) for percent in (100, 95, 50)),
        (averages[0] * areas[0] + averages[1] * areas[1]) / sum(areas),
        *(package.compute_surface_dice_at_tolerance(found, tolerance) for tolerance in TOLERANCES_MM),
    ]


@pytest.fixture(scope="module")
def surface_distance() -> ModuleType:
    return pytest.importorskip("surface_distance", reason="needs the surface-distance package of the dev extra")


def test_a_flat_element_is_as_large_as_the_face_of_a_voxel() -> None:
    areas = element_areas((5.0, 2.0, 3.0))
    assert areas[0b00001111] == pytest.approx(2 * 3)  # the four voxels of one slice are inside
    assert areas[0b00110011] == pytest.approx(5 * 3)
    assert areas[0b01010101] == pytest.approx(5 * 2)


def test_a_single_voxel_is_wrapped_in_an_octahedron() -> None:
    # marching cubes joins the midpoints of the six edges that leave the voxel: an octahedron with edges of sqrt(2) / 2
    (_, octahedron) = find_surfaces(voxel((3, 3, 3), (1, 1, 1)).astype(np.uint8), (1.0, 1.0, 1.0), count=2)
    assert len(octahedron.areas) == 8
    assert octahedron.areas.sum() == pytest.approx(2 * math.sqrt(3) * (math.sqrt(2) / 2) ** 2)


def test_a_single_pixel_is_wrapped_in_a_diamond() -> None:
    (_, diamond) = find_surfaces(voxel((3, 3), (1, 1)).astype(np.uint8), (3.0, 4.0), count=2)
    assert diamond.areas.tolist() == [2.5] * 4  # half of the diagonal of 5 in each quarter


def test_inside_and_outside_share_one_surface() -> None:
    for spacing_mm in ((1.0, 2.0, 4.0), (1.0, 2.0)):
        areas = element_areas(spacing_mm)
        assert areas == pytest.approx(areas[::-1])
        assert areas[0] == areas[-1] == 0
        assert (areas[1:-1] > 0).all()


def test_distances_between_two_voxels_three_places_apart() -> None:
    # corners at 0 and 2 mm against corners at 6 and 8 mm: half of either surface is 6 mm away, half 4 mm
    distances = one_label(voxel((1, 1, 4), (0, 0, 0)), voxel((1, 1, 4), (0, 0, 3)), (1.0, 1.0, 2.0))
    assert distances.hausdorff_mm() == 6
    assert distances.hausdorff_mm(95) == 6
    assert distances.hausdorff_mm(40) == 4
    assert distances.average_mm() == pytest.approx(5)
    assert [distances.surface_dice(tolerance) for tolerance in (3.9, 4, 6)] == pytest.approx([0, 0.5, 1])


def test_the_percentile_weighs_elements_by_their_area() -> None:
    distances = SurfaceDistances(
        truth_to_prediction_mm=np.array([7.0, 1.0, 3.0]),
        prediction_to_truth_mm=np.array([2.0]),
        truth_areas=np.array([1.0, 5.0, 4.0]),
        prediction_areas=np.array([10.0]),
    )
    # of the 10 mm² of the truth, 5 lie within 1 mm, 9 within 3 mm, all within 7 mm
    assert [distances.hausdorff_mm(percent) for percent in (40, 90, 91, 100)] == [2, 3, 7, 7]
    assert distances.average_mm() == pytest.approx((7 * 1 + 1 * 5 + 3 * 4 + 2 * 10) / 20)
    assert distances.surface_dice(2) == pytest.approx((5 + 10) / 20)


def test_equal_masks_are_no_distance_apart() -> None:
    mask = np.random.default_rng(0).random((6, 7, 8)) < 0.5
    assert numbers(one_label(mask, mask, (3.0, 1.0, 1.0))) == [0, 0, 0, 0, 1, 1, 1]


def test_a_tolerance_of_one_voxel_holds_one_voxel_wherever_it_lies() -> None:
    for place in range(30):
        truth, prediction = voxel((1, 1, 31), (0, 0, place)), voxel((1, 1, 31), (0, 0, place + 1))
        assert one_label(truth, prediction, (0.3, 0.3, 0.3)).surface_dice(0.3) == 1


def test_an_empty_mask_has_no_distance_and_no_surface_in_common() -> None:
    mask, nothing = voxel((3, 3, 3), (1, 1, 1)), np.zeros((3, 3, 3), dtype=bool)
    for pair in ((mask, nothing), (nothing, mask)):
        assert numbers(one_label(*pair, (1.0, 1.0, 1.0))) == pytest.approx([math.nan] * 4 + [0] * 3, nan_ok=True)
    assert np.isnan(numbers(one_label(nothing, nothing, (1.0, 1.0, 1.0)))).all()


def test_a_mask_that_touches_the_border_is_closed_there() -> None:
    inner = find_surfaces(np.pad(np.ones((2, 3, 4), np.uint8), 1), (1.0, 2.0, 3.0), count=2)[1]
    whole = find_surfaces(np.ones((2, 3, 4), np.uint8), (1.0, 2.0, 3.0), count=2)[1]
    assert whole.areas.sum() == pytest.approx(inner.areas.sum())
    assert np.array_equal(whole.corners + 1, inner.corners)


@pytest.mark.parametrize("shape", [(7, 8, 9), (11, 13)])
def test_labels_side_by_side_measure_what_each_does_alone(shape: tuple[int, ...]) -> None:
    truth, prediction = np.random.default_rng(1).integers(0, 4, size=(2, *shape), dtype=np.uint8)
    spacing_mm = (2.0, 1.0, 0.5)[: len(shape)]
    together = surface_distances(truth, prediction, spacing_mm, count=5)
    for label in range(1, 5):
        alone = one_label(truth == label, prediction == label, spacing_mm)
        assert numbers(together[label]) == pytest.approx(numbers(alone), nan_ok=True)


def test_the_background_has_no_surface() -> None:
    assert len(find_surfaces(voxel((3, 3, 3), (1, 1, 1)).astype(np.uint8), (1.0, 1.0, 1.0), count=2)[0].areas) == 0


def test_surfaces_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    label_map = np.random.default_rng(2).integers(0, 3, size=(9, 6, 5), dtype=np.uint8)
    whole = find_surfaces(label_map, (1.0, 1.0, 2.0), count=3)
    for voxels in (1, 2 * 7 * 6, 4 * 7 * 6):
        monkeypatch.setattr(surface, "VOXELS_AT_ONCE", voxels)
        for one, other in zip(find_surfaces(label_map, (1.0, 1.0, 2.0), count=3), whole, strict=True):
            place, other_place = np.lexsort(one.corners.T), np.lexsort(other.corners.T)
            assert np.array_equal(one.corners[place], other.corners[other_place])
            assert np.array_equal(one.areas[place], other.areas[other_place])


def test_as_many_spacings_as_axes_are_needed() -> None:
    with pytest.raises(ValueError, match="2 dimensions needs as many spacings"):
        find_surfaces(np.zeros((3, 3), np.uint8), (1.0, 1.0, 1.0), count=2)


@quietly
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.27, 0.98, 0.7), (2.5, 1.25)])
@pytest.mark.parametrize("share", [0.03, 0.5, 0.97])
def test_noise_measures_what_surface_distance_says(
    surface_distance: ModuleType, spacing_mm: tuple[float, ...], share: float
) -> None:
    # noise has every one of the 256 neighbourhoods (16 in 2D)
    size = (14, 15, 16) if len(spacing_mm) == 3 else (40, 50)
    truth, prediction = np.random.default_rng(3).random((2, *size)) < share
    ours = numbers(one_label(truth, prediction, spacing_mm))
    assert ours == pytest.approx(reference(surface_distance, truth, prediction, spacing_mm), abs=1e-9)


@quietly
@pytest.mark.realdata
@pytest.mark.parametrize(("dataset", "cases"), [("hippocampus", 8), ("sarcoma", 3)])
def test_real_masks_measure_what_surface_distance_says(
    surface_distance: ModuleType, real_data: Path, dataset: str, cases: int
) -> None:
    for path in sorted((real_data / dataset / "labelsTr").glob("*.nii.gz"))[:cases]:
        image = read_label(path)
        truth, spacing_mm = image.array[0], image.geometry.spacing_mm
        prediction = np.roll(truth, (1, 2, -1), axis=(0, 1, 2))
        prediction[: truth.shape[0] // 3] = 0  # one end is missing
        count = int(truth.max()) + 1
        for label, ours in enumerate(surface_distances(truth, prediction, spacing_mm, count)[1:], start=1):
            theirs = reference(surface_distance, truth == label, prediction == label, spacing_mm)
            assert numbers(ours) == pytest.approx(theirs, abs=1e-6), path.name

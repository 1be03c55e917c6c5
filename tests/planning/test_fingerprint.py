from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlite.data.records import from_json, to_json
from nnlite.errors import PlanError
from nnlite.planning.fingerprint import (
    TOTAL_SAMPLES,
    CaseFingerprint,
    Fingerprint,
    case_fingerprint,
    from_nnunet,
    merge,
    nonzero_box,
    nonzero_mask,
    samples_per_case,
)

SPACING = (3.0, 1.0, 1.0)


def case(
    case_id: str, values: list[float], shape: tuple[int, int, int] = (4, 5, 6), size: float = 1.0
) -> CaseFingerprint:
    return CaseFingerprint(
        case_id=case_id,
        spacing_mm=SPACING,
        shape_after_crop=shape,
        relative_size_after_crop=size,
        samples=np.array([values], np.float32),
    )


def test_the_box_holds_what_is_not_zero_in_any_channel() -> None:
    image = np.zeros((2, 5, 6, 7))
    image[0, 1, 2, 3] = -1
    image[1, 3, 2, 5] = 1
    assert nonzero_box(image) == ((1, 4), (2, 3), (3, 6))


def test_an_image_of_zeros_is_kept_whole() -> None:
    assert nonzero_box(np.zeros((1, 2, 3, 4))) == ((0, 2), (0, 3), (0, 4))


def test_the_mask_fills_enclosed_holes_but_not_those_open_to_the_border() -> None:
    image = np.zeros((1, 5, 5, 5))
    image[0, 1:4, 1:4, 1:4] = 1
    image[0, 2, 2, 2] = 0
    assert nonzero_mask(image).sum() == 27
    image[0, 1, 2, 2] = 0  # opens the hole
    assert nonzero_mask(image).sum() == 25


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_mask_of_a_single_slice_fills_holes_within_it_along_whichever_axis_it_lies(axis: int) -> None:
    ring = np.ones((3, 3))
    ring[1, 1] = 0
    image = np.expand_dims(ring, (0, axis + 1))
    assert nonzero_mask(image).shape == image.shape[1:]
    assert nonzero_mask(image).all()


def test_a_case_is_measured_inside_its_nonzero_box() -> None:
    image = np.zeros((2, 4, 4, 4), np.float32)
    image[0, 1:3, :, :] = 10
    image[1] = 2 * image[0]
    label = np.zeros((4, 4, 4), np.uint8)
    label[:2, 0, 0] = 5  # one voxel inside, one where the image is zero
    found = case_fingerprint("a", image, label, SPACING, samples=100)
    assert found.shape_after_crop == (2, 4, 4)
    assert found.relative_size_after_crop == 0.5
    assert found.samples.tolist() == [[10.0], [20.0]]


def test_without_a_label_nothing_is_sampled() -> None:
    assert case_fingerprint("a", np.ones((2, 3, 3, 3)), None, SPACING, samples=9).samples.shape == (2, 0)


def test_samples_are_drawn_alike_each_time_but_differently_for_each_case() -> None:
    image = np.arange(1, 1001, dtype=np.float32).reshape(1, 10, 10, 10)
    label = np.ones((10, 10, 10), np.uint8)
    first, again, other = (
        case_fingerprint(case_id, image, label, SPACING, samples=50).samples for case_id in ("a", "a", "b")
    )
    assert first.shape == (1, 50)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert set(first[0]) <= set(image.ravel())


def test_samples_of_all_cases_together_stay_within_memory() -> None:
    assert samples_per_case(1) == TOTAL_SAMPLES
    assert samples_per_case(3) * 3 <= TOTAL_SAMPLES
    assert samples_per_case(10 * TOTAL_SAMPLES) == 1


def test_every_case_weighs_alike_however_large_its_foreground() -> None:
    merged = merge([case("a", [0.0] * 1000), case("b", [10.0])])
    intensities = merged.intensities[0]
    assert intensities.mean == pytest.approx(5)
    assert intensities.std == pytest.approx(5)
    assert (intensities.min, intensities.max) == (0, 10)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(400, 3000))
def test_percentiles_of_a_single_case_are_those_of_its_voxels(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).integers(-1000, 3000, count)
    intensities = merge([case("a", [float(value) for value in values])]).intensities[0]
    assert intensities.mean == pytest.approx(np.mean(values))
    assert intensities.std == pytest.approx(np.std(values))
    ordered = np.sort(values)
    # Definitions of a percentile differ by up to one rank.
    for percent, found in (
        (0.5, intensities.percentile_00_5),
        (50, intensities.median),
        (99.5, intensities.percentile_99_5),
    ):
        rank = percent / 100 * len(values)
        assert ordered[int(rank) - 2] <= found <= ordered[int(rank) + 1]


def test_the_order_of_the_cases_does_not_matter() -> None:
    cases = [case("b", [1, 2], (7, 8, 9), 0.5), case("a", [3, 4, 5]), case("c", [])]
    assert merge(cases) == merge(reversed(cases))
    assert merge(cases).shapes_after_crop[1] == (7, 8, 9)
    assert merge(cases).median_relative_size_after_crop == 1.0


def test_a_fingerprint_survives_its_file() -> None:
    merged = merge([case("a", [1.5, 2.5])])
    assert from_json(to_json(merged), Fingerprint, source="fingerprint.json") == merged


def test_nothing_to_learn_is_said_once_and_clearly() -> None:
    with pytest.raises(PlanError, match="no case to plan for"):
        merge([])
    with pytest.raises(PlanError, match="not one foreground voxel in 2 cases"):
        merge([case("a", []), case("b", [])])


def test_cases_of_different_channels_are_refused() -> None:
    other = replace(case("b", [1]), samples=np.zeros((2, 1), np.float32))
    with pytest.raises(PlanError, match=r"number of channels: \[1, 2\]"):
        merge([case("a", [1]), other])


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_an_absurd_spacing_is_refused_with_the_case(step: float) -> None:
    with pytest.raises(PlanError, match=r"case_7: spacing .* cannot be true"):
        case_fingerprint("case_7", np.ones((1, 2, 2, 2)), None, (1.0, step, 1.0), samples=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacings_mm": ()}, "no case"),
        ({"shapes_after_crop": ()}, "1 spacings_mm but 0 shapes_after_crop"),
        ({"shapes_after_crop": ((0, 5, 5),)}, "empty axis"),
        ({"intensities": ()}, "no channel"),
        ({"median_relative_size_after_crop": 0.0}, "median_relative_size_after_crop"),
    ],
)
def test_an_edited_fingerprint_that_makes_no_sense_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        replace(merge([case("a", [1])]), **change)


def test_the_fingerprint_of_nnunet_is_read_as_it_is() -> None:
    channel = {"mean": 1, "median": 2, "std": 3, "min": 4, "max": 5, "percentile_00_5": 6, "percentile_99_5": 7}
    content = {
        "spacings": [[3, 1, 1]],
        "shapes_after_crop": [[10, 20, 30]],
        "foreground_intensity_properties_per_channel": {"10": {**channel, "mean": 10}, "2": channel},
        "median_relative_size_after_cropping": 0.9,
    }
    found = from_nnunet(content)
    assert found.spacings_mm == ((3.0, 1.0, 1.0),)
    assert found.shapes_after_crop == ((10, 20, 30),)
    assert [properties.mean for properties in found.intensities] == [1, 10]
    assert found.intensities[0].percentile_99_5 == 7
    del content["spacings"]
    with pytest.raises(PlanError, match="has no 'spacings'"):
        from_nnunet(content)
    with pytest.raises(PlanError, match="no nnU-Net v2 dataset fingerprint"):
        from_nnunet({**content, "spacings": [[1, 1]]})


def test_a_fingerprint_without_any_foreground_is_refused() -> None:
    found = merge([case("a", [1])])
    with pytest.raises(PlanError, match="as if no case had a foreground voxel"):
        replace(found, intensities=(replace(found.intensities[0], mean=float("nan")),))

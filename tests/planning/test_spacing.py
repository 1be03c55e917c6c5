from __future__ import annotations

from itertools import pairwise, takewhile

import pytest

from nnlite.planning.fingerprint import Fingerprint, IntensityProperties
from nnlite.planning.spacing import (
    coarser_spacings,
    coarsest_axis_first,
    flat_axes,
    median_resampled_shape,
    target_spacing,
)

INTENSITIES = IntensityProperties(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)


def fingerprint(*cases: tuple[tuple[float, float, float], tuple[int, int, int]]) -> Fingerprint:
    return Fingerprint(
        spacings_mm=tuple(spacing for spacing, _ in cases),
        shapes_after_crop=tuple(shape for _, shape in cases),
        intensities=(INTENSITIES,),
        median_relative_size_after_crop=1.0,
    )


def test_the_target_is_the_median_spacing() -> None:
    shape = (50, 100, 100)
    cases = [((2.0, 1.0, 1.0), shape), ((3.0, 1.0, 0.5), shape), ((2.5, 1.0, 0.7), shape)]
    assert target_spacing(fingerprint(*cases))[0] == (2.5, 1.0, 0.7)


def test_few_thick_slices_take_the_tenth_percentile() -> None:
    # Eleven cases of 4, 5, .. 14 mm: percentile 10 is the second, 5 mm; the median is 9 mm, more than 3 x 1 mm.
    cases = [((float(thickness), 1.0, 1.0), (20, 100, 100)) for thickness in range(4, 15)]
    target, reason = target_spacing(fingerprint(*cases))
    assert target == (5.0, 1.0, 1.0)
    assert "axis z" in reason
    assert "9 mm" in reason


def test_many_thick_slices_keep_the_median() -> None:
    # 34 slices are not three times fewer than 100 voxels.
    cases = [((float(thickness), 1.0, 1.0), (34, 100, 100)) for thickness in range(4, 15)]
    assert target_spacing(fingerprint(*cases))[0] == (9.0, 1.0, 1.0)


def test_the_slices_never_become_finer_than_the_pixels() -> None:
    # Percentile 10 of 0.5 (three cases) and 6 mm is 0.5 mm: below the 1 mm of the pixels.
    cases = [((0.5 if number < 3 else 6.0, 1.0, 1.0), (20, 100, 100)) for number in range(11)]
    assert target_spacing(fingerprint(*cases))[0] == (1.0 + 1e-5, 1.0, 1.0)


def test_the_first_of_several_coarsest_axes_comes_first() -> None:
    assert coarsest_axis_first((1.0, 2.0, 2.0)) == (1, 0, 2)
    assert coarsest_axis_first((1.0, 1.0, 1.0)) == (0, 1, 2)


def test_a_flat_axis_comes_before_coarser_ones_and_stays_one_voxel() -> None:
    # two of three cases are a single slice, of 2 and 6 mm; the pixels are larger than the thinner of them
    cases = fingerprint(
        *[((thickness, 4.0, 4.0), (depth, 168, 168)) for thickness, depth in ((2.0, 1), (6.0, 1), (2.0, 9))]
    )
    assert flat_axes(cases) == (0,)
    assert coarsest_axis_first((2.0, 4.0, 4.0)) == (1, 0, 2)
    assert coarsest_axis_first((2.0, 4.0, 4.0), flat_axes(cases)) == (0, 1, 2)
    # resampled to 2 mm the cases would have 1, 3 and 9 slices
    assert median_resampled_shape(cases, (2.0, 4.0, 4.0)) == (3.0, 168.0, 168.0)
    assert median_resampled_shape(cases, (2.0, 4.0, 4.0), flat_axes(cases)) == (1.0, 168.0, 168.0)


def test_the_median_shape_is_that_of_the_resampled_cases() -> None:
    cases = fingerprint(((2.0, 1.0, 1.0), (10, 10, 10)), ((1.0, 1.0, 1.0), (10, 15, 10)))
    # Resampled to 1 mm: 20 x 10 x 10 and 10 x 15 x 10. To 100 mm: no axis vanishes.
    assert median_resampled_shape(cases, (1.0, 1.0, 1.0)) == (15.0, 12.5, 10.0)
    assert median_resampled_shape(cases, (100.0, 1.0, 1.0)) == (1.0, 12.5, 10.0)


def test_fine_axes_are_coarsened_alone_until_within_a_factor_of_two() -> None:
    path = list(takewhile(lambda spacing: max(spacing) < 12, coarser_spacings((10.0, 1.0, 2.0))))
    for before, after in pairwise([(10.0, 1.0, 2.0), *path]):
        for axis in range(3):
            alone = any(max(before) / step > 2 for step in before)
            grows = max(before) / before[axis] > 2 if alone else True
            assert after[axis] == pytest.approx(before[axis] * (1.03 if grows else 1))
    assert max(path[-1]) / min(path[-1]) <= 2

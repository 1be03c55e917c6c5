"""What images look like: their numbers, and whether a mirrored one could be told from the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnlite.data.image import Geometry, Image, StoredGrid
from nnlite.planning.appearance import FEWEST_CASES, QUANTILES, _quantiles, look, merge_looks, sides

SHAPE = (16, 20, 24)


def image(
    array: np.ndarray, *, flips: tuple[bool, bool, bool] = (False, False, False), axes: tuple[int, int, int] = (0, 1, 2)
) -> Image:
    geometry = Geometry(shape=array.shape[-3:], spacing_mm=(2.0, 1.0, 0.5))
    stored = StoredGrid(axes=axes, flips=flips, planar=False, suffix=".nii.gz", geometry=geometry)
    return Image(array=array, geometry=geometry, stored=stored)


def organ(seed: int, *, shift: int = 0) -> np.ndarray:
    """Noise, brighter in a corner: no two of its sides look alike."""
    rng = np.random.default_rng(seed)
    array = rng.normal(100, 5, (1, *SHAPE)).astype(np.float32)
    array[:, 2:7, 3 + shift : 9 + shift, 3:10] += 80
    return array


def test_spacing_extent_and_quantiles_are_those_of_the_image():
    array = np.zeros((1, *SHAPE), dtype=np.int16)
    array[0, 4:, :, :] = np.arange(1, 12 * 20 * 24 + 1).reshape(12, 20, 24)
    seen = look("a", image(array)).appearance
    assert seen.spacing_mm == (2.0, 1.0, 0.5)
    assert seen.size_mm == (32.0, 20.0, 12.0)
    # without the zeros, 1 to 5760: quantile q lies at 1 + 5759 q
    assert seen.channels[0].quantiles == pytest.approx([1 + 5759 * q for q in QUANTILES], rel=1e-4)
    assert seen.channels[0].mean == pytest.approx(2880.5)


@pytest.mark.parametrize(
    ("axes", "flips", "letters"),
    [
        ((0, 1, 2), (False, False, False), "LPS"),
        ((0, 1, 2), (False, True, True), "RAS"),
        ((1, 0, 2), (True, False, False), "LIP"),  # the file's slices (z) go to the back, its rows (y) down
    ],
)
def test_the_orientation_is_told_in_the_order_of_the_file_s_axes(
    axes: tuple[int, int, int], flips: tuple[bool, bool, bool], letters: str
):
    assert image(np.ones((1, 4, 4, 4)), axes=axes, flips=flips).stored.code == letters


def test_mirroring_changes_the_sign_of_a_side_and_scaling_changes_nothing():
    template = look("a", image(organ(0))).thumbnail
    array = organ(1)
    as_is, scaled = (sides(look("b", image(one)).thumbnail, template) for one in (array, 3 * array + 7))
    assert min(as_is) > 0.1
    assert scaled == pytest.approx(as_is, abs=1e-4)
    for axis in range(3):
        mirrored = sides(look("b", image(np.flip(array, axis + 1))).thumbnail, template)
        assert mirrored[axis] == pytest.approx(-as_is[axis], abs=1e-6)


def test_aligned_images_allow_a_mirror_test_that_recognises_them_all():
    known = merge_looks(look(f"{seed:02}", image(organ(seed, shift=seed % 3))) for seed in range(12))
    assert [one.case for one in known.images] == [f"{seed:02}" for seed in range(12)]
    for test in known.mirror:
        assert test.threshold is not None
        assert (test.recognised, test.mistaken) == (1.0, 0.0)


def test_images_without_alignment_or_too_few_of_them_allow_none():
    rng = np.random.default_rng(0)
    noise = [look(f"{seed:02}", image(rng.normal(100, 5, (1, *SHAPE)))) for seed in range(30)]
    few = [look(f"{seed:02}", image(organ(seed))) for seed in range(FEWEST_CASES - 1)]
    for looks in (noise, few, few[:1]):
        assert [test.threshold for test in merge_looks(looks).mirror] == [None, None, None]


def test_an_image_of_zeros_has_a_look_too():
    seen = look("empty", image(np.zeros((1, *SHAPE))))
    assert seen.appearance.channels[0].std == 0
    assert np.isfinite(seen.thumbnail).all()


@pytest.mark.parametrize("count", [1, 2, 7, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_quantiles_are_those_of_numpy_to_the_bit(count: int, dtype: type):
    values = np.random.default_rng(count).gamma(2, 100, count).astype(dtype)
    assert np.array_equal(_quantiles(values), np.quantile(values, QUANTILES))


def test_quantiles_and_a_template_of_other_numbers_are_refused():
    made = merge_looks([look("a", image(organ(0)))])
    with pytest.raises(ValueError, match=r"a template of 511 values for images of \[1\] channels"):
        replace(made, template=made.template[1:])
    with pytest.raises(ValueError, match=r"a template of 1024 values for images of \[1\] channels"):
        replace(made, template=made.template * 2)
    with pytest.raises(ValueError, match="12 quantiles instead of 13"):
        replace(made.images[0].channels[0], quantiles=(0.0,) * 12)

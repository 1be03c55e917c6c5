"""Cases made ready as in nnU-Net: its sums, its idea of what is outside, its ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
from skimage.transform import resize as resized

from nnlite.errors import ImageError
from nnlite.interop.nnunet_preprocessing import preprocess_alike, preprocess_exactly, resize
from nnlite.planning.planner import Plan

BOTH = pytest.mark.parametrize("preprocess", [preprocess_exactly, preprocess_alike])


def plan(scheme: str = "zscore", *, masked: bool = False, transpose: tuple[int, int, int] = (0, 1, 2)) -> Plan:
    """A 3D plan at 1 mm."""
    one = tiny.plan()
    changed = replace(one.configurations["3d"], normalization=(scheme,), use_nonzero_mask=(masked,))
    return replace(one, configurations={"3d": changed}, transpose=transpose)


def ready(preprocess, image: np.ndarray, plan: Plan, spacing=(1.0, 1.0, 1.0), previous=None):
    return preprocess("a", image[None], spacing, plan, plan.configurations["3d"], previous=previous)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(300, 40, shape).astype(np.float32)


@BOTH
def test_sums_run_over_voxels_as_they_lie_in_memory(preprocess) -> None:
    image = noise(33, 47, 52)
    image[:2] = image[:, -3:] = 0
    case = ready(preprocess, image, plan(transpose=(2, 0, 1)))
    view = image[2:, :-3].transpose(2, 0, 1)  # cropped, then the plan's order of axes: nothing is copied
    expected = (view - view.mean()) / view.std()
    assert np.array_equal(case.image[0], expected)


@BOTH
def test_what_is_enclosed_counts_as_inside_and_what_is_outside_stays_zero(preprocess) -> None:
    image = noise(6, 7, 8)
    image[3, 3, 4] = 0  # enclosed
    image[0, 0, :3] = 0  # open to the outside
    case = ready(preprocess, image, plan(masked=True))
    inside = np.ones(image.shape, dtype=bool)
    inside[0, 0, :3] = False
    assert (case.image[0][~inside] == 0).all()
    assert case.image[0][inside].mean() == pytest.approx(0, abs=1e-6)
    assert case.image[0][3, 3, 4] < -5


@BOTH
def test_a_hole_in_a_single_slice_is_outside(preprocess) -> None:
    # in three dimensions a slice is open on both its faces
    image = noise(1, 9, 9)
    image[0, 4, 4] = 0
    assert ready(preprocess, image, plan(masked=True)).image[0, 0, 4, 4] == 0


@BOTH
def test_channels_that_do_not_fit_and_colours_that_are_none_are_refused(preprocess) -> None:
    with pytest.raises(ImageError, match="a: a colour channel holds values from"):
        ready(preprocess, noise(4, 4, 4), plan("rgb_to_0_1"))
    one = plan()
    with pytest.raises(ImageError, match="a: 2 instead of 1 channels"):
        preprocess("a", noise(2, 4, 4, 4), (1.0, 1.0, 1.0), one, one.configurations["3d"])


@BOTH
@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("ct", [-2.5, -2.5, 0.0, 2.5]),  # clipped to the percentiles of tiny.INTENSITY
        ("none", [-4.0, -2.75, 0.0, 4.0]),
        ("rescale_to_0_1", [0.0, 0.15625, 0.5, 1.0]),
    ],
)
def test_schemes(preprocess, scheme: str, expected: list[float]) -> None:
    image = np.array([-4.0, -2.75, 0.0, 4.0], dtype=np.float32).reshape(1, 1, 4)
    assert ready(preprocess, image, plan(scheme)).image.ravel().tolist() == expected


def test_both_resample_alike_and_exactly_is_scikit_image() -> None:
    image = noise(9, 16, 14)
    exact, alike = (
        ready(preprocess, image, plan("none"), (2.0, 1.5, 0.7)) for preprocess in (preprocess_exactly, preprocess_alike)
    )
    assert np.array_equal(
        exact.image[0],
        resized(image.astype(float), (18, 24, 10), 3, mode="edge", anti_aliasing=False).astype(np.float32),
    )
    assert exact.restoration == alike.restoration
    np.testing.assert_allclose(alike.image, exact.image, rtol=1e-5)


def test_thick_slices_are_resized_one_by_one() -> None:
    image = noise(4, 16, 14)
    case = ready(preprocess_exactly, image, plan("none"), (6.0, 1.5, 1.0))  # to 24 slices, each of them six times
    planes = [resized(plane.astype(float), (24, 14), 3, mode="edge", anti_aliasing=False) for plane in image]
    assert np.array_equal(case.image[0], np.repeat(planes, 6, axis=0).astype(np.float32))


def test_resize_leaves_a_grid_that_fits_alone() -> None:
    volumes = noise(1, 4, 5, 6)
    assert resize(volumes, (4, 5, 6), order=1, separate=None) is volumes


@BOTH
def test_of_labels_that_tie_the_nearest_wins(preprocess) -> None:
    # halved: each new voxel lies between two old ones, and the nearest of them is the same for every label
    previous = np.zeros((4, 4, 8), dtype=np.uint8)
    previous[..., 1::2] = 1
    case = ready(preprocess, noise(4, 4, 8), plan("none"), (1.0, 1.0, 0.5), previous)
    swapped = ready(preprocess, noise(4, 4, 8), plan("none"), (1.0, 1.0, 0.5), 1 - previous)
    assert case.previous is not None
    assert swapped.previous is not None
    assert case.previous.dtype == np.uint8
    assert np.array_equal(case.previous, 1 - swapped.previous)


def test_labels_of_a_first_stage_are_the_same_in_both() -> None:
    rng = np.random.default_rng(1)
    image = noise(12, 14, 10)
    image[:4, :5] = 0  # background outside is a label of its own there
    previous = np.kron(rng.integers(0, 3, (6, 7, 5)), np.ones((2, 2, 2))).astype(np.uint8)
    for spacing in ((2.0, 0.5, 1.0), (0.8, 0.7, 1.3), (4.0, 1.0, 0.5)):
        exact, alike = (
            ready(preprocess, image, plan("none"), spacing, previous).previous
            for preprocess in (preprocess_exactly, preprocess_alike)
        )
        assert np.array_equal(exact, alike)

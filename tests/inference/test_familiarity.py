"""An image unlike the training images is told by what differs, and one like them raises nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from nnlite.data.image import Geometry, Image, StoredGrid
from nnlite.inference.familiarity import Familiarity, familiarity
from nnlite.planning.appearance import Appearance, look, merge_looks
from nnlite.planning.configurations import NormalizationScheme
from nnlite.planning.fingerprint import IntensityProperties

CT = IntensityProperties(mean=0, median=0, std=250, min=-1000, max=2000, percentile_00_5=-900, percentile_99_5=1000)


def scan(seed: int, *, spacing: float = 1.0, flip_axis: int | None = None, flipped_header: bool = False) -> Image:
    """Air, tissue at about 50 and a bright organ in a corner, in Hounsfield units."""
    rng = np.random.default_rng(seed)
    array = rng.normal(50, 40, (1, 16, 18, 20)).astype(np.float32)
    array[:, :, :2] = rng.normal(-900, 20, (1, 16, 2, 20))
    array[:, 2:7, 3:9, 3:10] += 300
    if flip_axis is not None:
        array = np.flip(array, flip_axis + 1)
    geometry = Geometry(shape=array.shape[1:], spacing_mm=(spacing,) * 3)
    grid = StoredGrid(
        axes=(0, 1, 2), flips=(False, False, flipped_header), planar=False, suffix=".nii", geometry=geometry
    )
    return Image(array=array, geometry=geometry, stored=grid)


@pytest.fixture(scope="module")
def known() -> Appearance:
    return merge_looks(look(f"{seed:02}", scan(seed)) for seed in range(12))


def compare(image: Image, known: Appearance, scheme: NormalizationScheme = "ct") -> Familiarity:
    plan = replace(tiny.plan(), intensities=(CT,))
    configuration = replace(plan.configuration("3d"), normalization=(scheme,))
    return familiarity(image, known, plan, configuration)


def checks(image: Image, known: Appearance, scheme: NormalizationScheme = "ct") -> set[str]:
    return {finding.check for finding in compare(image, known, scheme).findings}


def test_an_image_like_the_others_raises_nothing(known: Appearance):
    for seed in range(100, 110):
        assert compare(scan(seed), known) == Familiarity(findings=(), not_checked=())


def test_another_spacing_is_told_with_both_numbers(known: Appearance):
    found = compare(scan(50, spacing=2.0), known).findings
    assert {finding.check for finding in found} == {"spacing", "field of view"}
    axes = ("z (up)", "y (back)", "x (left)")
    told = "; ".join(f"2 mm along {axis}, of training images 1 to 1" for axis in axes)
    assert found[0].what == f"spacing is {told}"
    assert (found[0].value, found[0].lowest, found[0].highest) == (2.0, 1.0, 1.0)
    assert checks(scan(50, spacing=1.3), known) == set()  # training zooms by up to 1.4


def test_a_mirrored_image_is_told_from_its_voxels_and_from_its_header(known: Appearance):
    for axis in range(3):
        assert checks(scan(60, flip_axis=axis), known) == {"mirrored"}
    assert checks(scan(60, flip_axis=2, flipped_header=True), known) == {"mirrored", "orientation"}
    assert checks(scan(60, flipped_header=True), known) == {"orientation"}


@pytest.mark.parametrize(("factor", "offset"), [(1, 1024), (0.001, 0), (0.1, 128)])
def test_a_ct_in_other_units_is_told_but_not_where_scores_undo_them(known: Appearance, factor: float, offset: float):
    image = scan(70)
    changed = replace(image, array=image.array * factor + offset)
    [finding] = compare(changed, known).findings
    assert finding.check == "intensity"
    assert finding.highest is not None
    assert isinstance(finding.value, float)
    assert finding.value > finding.highest
    assert "Hounsfield" in finding.what
    assert checks(changed, known, "zscore") == set()


def test_another_kind_of_image_is_told_by_its_intensities_whatever_its_scale(known: Appearance):
    image = scan(80)
    other = replace(image, array=np.random.default_rng(0).exponential(300, image.array.shape).astype(np.float32))
    for scheme in ("ct", "zscore", "rescale_to_0_1", "none"):
        assert "intensity" in checks(other, known, scheme)


def test_with_few_training_images_what_cannot_be_checked_is_named():
    few = merge_looks(look(f"{seed}", scan(seed)) for seed in range(3))
    seen = compare(scan(9), few)
    assert seen.findings == ()
    assert [reason.split(":")[0] for reason in seen.not_checked] == [
        "intensity",
        "upside down",
        "back to front",
        "mirrored left to right",
    ]

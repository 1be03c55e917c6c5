"""Whether images are aligned is measured: by their extents, and by what an atlas of the other cases alone is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.errors import PlanError
from nnlite.planning.cost import input_channels
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties
from nnlite.planning.planner import Plan, make_plan
from nnlite.planning.prior import Prior, Sketch, alignment, plan_prior, sketch

INTENSITY = IntensityProperties(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)


ORGAN = Labels.from_table({"organ": 1})
SPARSE = Labels.from_table({"organ": 1, "ignore": 9})


def line(first: int, last: int, length: int = 20, *, told: int | None = None, value: int = 1) -> Sketch:
    """A line of voxels, some of which are labelled; from ``told`` on they are to be ignored."""
    labels = np.zeros((1, 1, length), dtype=np.int16)
    labels[..., first:last] = value
    if told is not None:
        labels[..., told:] = 9
    return Sketch(size_mm=(1.0, 1.0, float(length)), labels=labels)


def test_labels_in_one_place_are_aligned() -> None:
    found = alignment([line(5, 12)] * 3, ORGAN)
    assert (found.size_ratio, found.atlas_dice, found.aligned) == (1.0, 1.0, True)


def test_the_dice_is_that_of_the_answer_of_the_other_cases() -> None:
    # each is asked what the two others say: where they disagree the vote is even, and background comes first
    found = alignment([line(0, 4), line(0, 4), line(2, 6)], ORGAN)
    # the first two: the others agree on 2 and 3 of 0 to 3: 2 x 2 / (2 + 4). The third: 0 to 3 is said: 2 x 2 / (4 + 4)
    assert found.atlas_dice == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 3)


def test_labels_anywhere_or_images_of_other_extents_are_not_aligned() -> None:
    elsewhere = alignment([line(0, 4), line(7, 11), line(14, 18)], ORGAN)
    assert elsewhere.atlas_dice == 0
    assert not elsewhere.aligned
    longer = alignment([line(5, 12), replace(line(5, 12), size_mm=(1.0, 1.0, 25.0))], ORGAN)
    assert longer.size_ratio == pytest.approx(1.25)
    assert longer.atlas_dice == 1
    assert not longer.aligned
    assert longer.in_words() == (
        "extents differ by up to a factor of 1.25 (aligned: 1.1), and an atlas of the other cases alone reaches a mean "
        "Dice of 1.00 (aligned: 0.5)"
    )


def test_the_thickness_of_single_slices_is_no_extent() -> None:
    slices, volumes = np.zeros((1, 8, 8), dtype=np.int16), np.zeros((2, 8, 8), dtype=np.int16)
    slices[:, 2:5] = volumes[:, 2:5] = 1
    for label, ratio in ((slices, 1.0), (volumes, 5.0)):
        seen = [sketch(label, (thickness_mm, 1.0, 1.0)) for thickness_mm in (1.0, 5.0, 1.0)]
        assert alignment(seen, ORGAN).size_ratio == ratio
    # beside a volume a slice is thin, whatever its header says
    assert alignment([sketch(slices, (1.0, 1.0, 1.0)), sketch(volumes, (1.0, 1.0, 1.0))], ORGAN).size_ratio == 2.0
    points = [sketch(slices[:, :1, :1], (1.0, 1.0, step_mm)) for step_mm in (1.0, 5.0)]
    assert alignment(points, ORGAN).size_ratio == 1.0


def test_one_case_or_none_labelled_tells_nothing() -> None:
    assert alignment([line(5, 12)], ORGAN).atlas_dice == 0
    assert alignment([line(0, 0)] * 3, ORGAN).atlas_dice == 0
    assert alignment([line(5, 12, told=0)] * 3, SPARSE).atlas_dice == 0


def test_voxels_to_be_ignored_are_no_label_that_lies_alike() -> None:
    assert alignment([line(0, 4, told=18), line(7, 11, told=18), line(14, 18, told=18)], SPARSE).atlas_dice == 0


def test_only_voxels_that_the_case_and_another_one_tell_of_are_judged() -> None:
    # both say the same of 0 and 1; of what follows the second says nothing, not that there is background
    assert alignment([line(0, 4), line(0, 4, told=2)], SPARSE).atlas_dice == 1
    # the first says 0 to 3, the second tells of 0 to 9 and says 2 to 5: either way 2 x 2 / (4 + 4)
    assert alignment([line(0, 4), line(2, 6, told=10)], SPARSE).atlas_dice == pytest.approx(1 / 2)


def test_instances_that_have_numbers_are_one_label() -> None:
    numbered = replace(SPARSE, instances=Instances(numbered=True))
    assert alignment([line(5, 12, value=7), line(5, 12, value=300, told=15)], numbered).atlas_dice == 1


def test_a_sketch_is_small_and_covers_the_whole_map() -> None:
    label = np.zeros((100, 7, 64), dtype=np.int16)
    label[50:] = 300
    seen = sketch(label, (2.0, 1.0, 0.5))
    assert seen.labels.shape == (32, 7, 32)
    assert seen.size_mm == (200, 7, 32)
    assert (seen.labels[:16] == 0).all()
    assert (seen.labels[16:] == 300).all()


def planned(
    prior: str | None,
    labels: Labels,
    shape: tuple[int, int, int] = (36, 50, 35),
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Plan:
    found = Fingerprint(
        spacings_mm=(spacing_mm,) * 10,
        shapes_after_crop=(shape,) * 10,
        intensities=(INTENSITY,),
        median_relative_size_after_crop=1.0,
    )
    options = {"dataset": "d", "channels": ["MR"], "labels": labels, "device": "cpu"}
    return make_plan(found, prior=None if prior is None else plan_prior(prior, found), **options)  # type: ignore[arg-type]


TWO = Labels.from_table({"organ": 1, "lesion": 2})


def test_an_atlas_is_no_finer_than_the_images() -> None:
    assert planned("channel", TWO, (1, 500, 40)).prior == Prior(use="channel", atlas_shape=(1, 64, 40))


def test_the_atlas_of_flat_images_is_flat_along_the_first_axis_as_their_plan_is() -> None:
    made = planned("channel", TWO, (168, 1, 160), (4.07, 3.0, 4.07))
    assert made.transpose == (1, 0, 2)
    assert made.prior == Prior(use="channel", atlas_shape=(1, 64, 64))


def test_channels_of_the_atlas_are_counted_and_a_product_has_none() -> None:
    seen = {
        use: input_channels(made, made.configuration("3d"))
        for use in (None, "channel", "product")
        if (made := planned(use, TWO))
    }
    assert seen == {None: 1, "channel": 3, "product": 1}


def test_with_an_atlas_sides_are_not_mirrored() -> None:
    sides = Labels.from_table({"left lung": 1, "right lung": 2})
    assert planned(None, sides).configuration("3d").mirrored_axes == (0, 1, 2)
    transposed = planned("product", sides)
    assert transposed.configuration("3d").mirrored_axes == (0, 1)
    assert transposed.configuration("2d").mirrored_axes == (0,)
    assert "an atlas knows" in transposed.configuration("3d").reasons["mirror_axes"]
    assert planned("product", TWO).configuration("3d").mirrored_axes == (0, 1, 2)


def test_an_atlas_of_no_size_is_refused() -> None:
    with pytest.raises(PlanError, match="must hold positive numbers"):
        Prior(use="channel", atlas_shape=(0, 8, 8))

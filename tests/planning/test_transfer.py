from __future__ import annotations

from dataclasses import replace

import pytest

from nnlite.data.labels import Labels
from nnlite.errors import PlanError
from nnlite.networks.build import weight_shapes
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties
from nnlite.planning.network import NetworkChoice
from nnlite.planning.planner import Plan, make_plan
from nnlite.planning.prior import Prior, PriorUse
from nnlite.planning.transfer import transfer

ORGAN = Labels(names=("background", "organ"), values=(0, 1))
LESIONS = Labels(names=("background", "lesion", "cyst"), values=(0, 3, 7))


def fingerprint(spacing, shape, mean: float = 0.0) -> Fingerprint:
    some = IntensityProperties(mean=mean, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
    return Fingerprint(
        spacings_mm=(spacing,) * 5,
        shapes_after_crop=(shape,) * 5,
        intensities=(some,),
        median_relative_size_after_crop=1.0,
    )


def plan(spacing=(1.0, 1.0, 3.0), shape=(300, 300, 60)) -> Plan:
    return make_plan(fingerprint(spacing, shape, mean=40.0), dataset="livers", channels=("CT",), labels=ORGAN)


def taken(other: Plan, spacing=(2.0, 2.0, 2.0), shape=(90, 100, 110), channels=("CT",)) -> Plan:
    return transfer(other, fingerprint(spacing, shape), dataset="spleens", channels=channels, labels=LESIONS)


def test_all_but_the_dataset_s_own_numbers_is_the_other_plan_s() -> None:
    other, made = plan(), taken(plan())
    assert (made.dataset, made.labels, made.training_cases) == ("spleens", LESIONS, 5)
    assert (made.transpose, made.intensities, made.memory_gib) == (other.transpose, other.intensities, 8)
    assert list(made.configurations) == list(other.configurations)
    for name, one in made.configurations.items():
        was = other.configurations[name]
        assert replace(one, median_shape=was.median_shape, reasons={}) == replace(was, reasons={})
        assert one.reasons["patch_size"] == f"taken from the plan of livers: {was.reasons['patch_size']}"


def test_whether_images_have_sizes_is_told_of_this_dataset() -> None:
    assert not taken(plan(), spacing=(1.0, 1.0, 1.0)).sized_images
    assert taken(plan(spacing=(1.0, 1.0, 1.0))).sized_images


def test_the_median_image_is_this_dataset_s_at_the_other_s_spacing_and_order_of_axes() -> None:
    made = taken(plan())
    assert made.transpose == (2, 0, 1)  # the coarse axis of the livers is x
    assert made.configuration("3d").median_shape == (73, 180, 200)  # 110 x 2 / 3, 90 x 2 / 1, 100 x 2 / 1
    assert made.configuration("2d").median_shape == (180, 200)


def test_images_are_not_mirrored_left_to_right_where_an_atlas_meets_labels_that_tell_the_sides_apart() -> None:
    lungs = Labels.from_table({"left lung": 1, "right lung": 2})
    with_atlas = replace(plan(), prior=Prior(use="channel", atlas_shape=(20, 50, 50)))
    new = {"fingerprint": fingerprint((2.0, 2.0, 2.0), (90, 100, 110)), "dataset": "lungs", "channels": ("CT",)}
    made = transfer(with_atlas, labels=lungs, **new).configuration("3d")
    assert with_atlas.transpose == (2, 0, 1)  # the patch's first axis is x
    assert made.mirrored_axes == (1, 2)
    assert made.reasons["mirror_axes"] == "not left to right (axis x): an atlas knows on which side a label is"
    assert transfer(plan(), labels=lungs, **new).configuration("3d").mirrored_axes == (0, 1, 2)
    assert transfer(with_atlas, labels=LESIONS, **new).configuration("3d").mirrored_axes == (0, 1, 2)


@pytest.mark.parametrize("channels", [("MR",), ("CT", "PET"), ()])
def test_other_channels_are_refused(channels: tuple[str, ...]) -> None:
    with pytest.raises(PlanError, match="channel"):
        taken(plan(), channels=channels)
    with pytest.raises(PlanError, match="channels disagree: spleens has MR, the plan of livers is for CT"):
        taken(plan(), channels=("MR",))


def test_flat_images_take_the_2d_part_and_are_refused_where_there_is_none() -> None:
    flat = {"spacing": (1.0, 1.0, 999.0), "shape": (200, 220, 1)}
    made = taken(plan(), **flat)
    assert list(made.configurations) == ["2d"]
    assert made.reasons["3d"] == "the images of spleens are flat"
    with pytest.raises(PlanError, match="spleens are flat along z, and the plan of livers looks at slices along x"):
        taken(plan(), spacing=(999.0, 1.0, 1.0), shape=(1, 200, 220))
    volumes = replace(plan(), configurations={"3d": plan().configuration("3d")})
    with pytest.raises(PlanError, match="spleens has flat images, and the plan of livers has no configuration 2d"):
        taken(volumes, **flat)


def test_a_plan_of_thin_slices_is_followed_by_the_dataset_it_was_made_for() -> None:
    found = fingerprint((3.0, 4.07, 4.07), (1, 168, 160), mean=40.0)
    made = make_plan(found, dataset="livers", channels=("CT",), labels=ORGAN)
    assert transfer(made, found, dataset="livers", channels=("CT",), labels=ORGAN) == made


@pytest.mark.parametrize("use", [None, "channel", "product"])
def test_separate_encoders_see_as_many_labels_as_this_dataset_has(use: PriorUse | None) -> None:
    found = replace(fingerprint((1.0, 1.0, 1.0), (400, 400, 400)), intensities=fingerprint((1,), (1,)).intensities * 2)
    options = {"channels": ("T1", "T2"), "network": NetworkChoice(fusion="separate")}
    prior = None if use is None else Prior(use=use, atlas_shape=(8, 8, 8))
    other = make_plan(found, dataset="livers", labels=ORGAN, prior=prior, **options)
    made = transfer(other, found, dataset="spleens", channels=("T1", "T2"), labels=LESIONS)
    atlas = (
        use == "channel"
    )  # frequencies of one organ there, of two structures here; as many labels from the stage before
    for name in ("2d", "3d", "3d-lowres", "3d-cascade"):
        seen = atlas + (name == "3d-cascade")
        assert other.configuration(name).topology.encoders == (1, 1, *([seen] if seen else []))
        assert made.configuration(name).topology.encoders == (1, 1, *([2 * seen] if seen else []))
        weight_shapes(made, made.configuration(name))  # PlanError where encoders and channels disagree

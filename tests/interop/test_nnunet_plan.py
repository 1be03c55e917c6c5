"""nnU-Net's plans become nnlite's, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from nnunet_files import dataset, plans

from nnlite.errors import PlanError
from nnlite.interop.nnunet_plan import configuration_name, plan_from_nnunet, resolved_settings


def test_all_configurations_are_taken_over_under_nnlite_s_names():
    plan = plan_from_nnunet(plans(), dataset())
    assert set(plan.configurations) == {"2d", "3d", "3d-lowres", "3d-cascade"}
    assert plan.dataset == "Dataset007_Balls"
    assert (plan.channels, plan.labels.names, plan.training_cases) == (("MR",), ("background", "ball", "core"), 5)
    full, cascade = plan.configuration("3d"), plan.configuration("3d-cascade")
    assert (full.spacing_mm, full.patch_size, full.batch_size) == ((2.0, 1.5, 1.5), (8, 16, 16), 2)
    assert (full.normalization, full.use_nonzero_mask, full.batch_dice) == (("zscore",), (False,), True)
    assert (cascade.patch_size, cascade.previous_stage) == (full.patch_size, "3d-lowres")
    assert plan.configuration("3d-lowres").spacing_mm == (3.0, 3.0, 3.0)
    assert plan.intensities[0].percentile_99_5 == 240.0


def test_a_cascade_brings_the_configuration_that_it_continues_from():
    assert set(plan_from_nnunet(plans(), dataset(), ["3d_cascade_fullres"]).configurations) == {
        "3d-lowres",
        "3d-cascade",
    }


def test_an_edited_configuration_inherits_what_it_does_not_say():
    content = plans()
    content["configurations"]["mine"] = {"inherits_from": "3d_fullres", "batch_size": 7}
    content["configurations"]["mine_too"] = {"inherits_from": "mine", "spacing": [1.0, 1.0, 1.0]}
    plan = plan_from_nnunet(content, dataset(), ["mine_too"])
    assert plan.configuration("3d").batch_size == 7
    assert plan.configuration("3d").spacing_mm == (1.0, 1.0, 1.0)
    assert plan.configuration("3d").patch_size == (8, 16, 16)


@pytest.mark.parametrize(("median", "sized"), [([1.0, 1.0, 1.0], False), ([3.0, 1.0, 0.8], True), (None, True)])
def test_images_of_which_none_had_a_size_are_told_by_the_median_spacing(median: list[float] | None, sized: bool):
    content = plans() | ({} if median is None else {"original_median_spacing_after_transp": median})
    assert plan_from_nnunet(content, dataset()).sized_images == sized


def test_two_configurations_that_would_have_one_name_are_refused():
    content = plans()
    content["configurations"]["mine"] = {"inherits_from": "3d_fullres"}
    with pytest.raises(PlanError, match="3d_fullres and mine would both be 3d"):
        plan_from_nnunet(content, dataset())


def test_inheritance_in_a_circle_and_from_nothing_is_told():
    content = plans()
    content["configurations"]["a"] = {"inherits_from": "b"}
    content["configurations"]["b"] = {"inherits_from": "a"}
    with pytest.raises(PlanError, match="a -> b -> a"):
        resolved_settings(content, "a")
    with pytest.raises(PlanError, match="no configuration 4d; there are 2d, 3d_lowres"):
        configuration_name(content, "4d")


def test_early_plans_name_their_statistics_and_channels_another_way():
    content, described = plans(), dataset()
    content["foreground_intensity_properties_by_modality"] = content.pop("foreground_intensity_properties_per_channel")
    described["modality"] = described.pop("channel_names")
    assert plan_from_nnunet(content, described) == plan_from_nnunet(plans(), dataset())


def test_channels_are_ordered_by_number_not_by_text():
    content, described = plans(), dataset()
    described["channel_names"] = {str(number): f"m{number}" for number in (10, *range(10))}
    statistics = content["foreground_intensity_properties_per_channel"]["0"]
    content["foreground_intensity_properties_per_channel"] = {
        str(number): {**statistics, "mean": float(number)} for number in range(11)
    }
    for one in content["configurations"].values():
        one |= {"normalization_schemes": ["CTNormalization"] * 11, "use_mask_for_norm": [False] * 11}
    plan = plan_from_nnunet(content, described)
    assert plan.channels == tuple(f"m{number}" for number in range(11))
    assert [channel.mean for channel in plan.intensities] == list(range(11))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("preprocessor_name", "MyPreprocessor", "no preprocessor MyPreprocessor"),
        ("resampling_fn_data", "resample_torch_fornnunet", "no resampling_fn_data resample_torch_fornnunet"),
        ("resampling_fn_probabilities_kwargs", {"order": 0, "force_separate_z": None}, "probabilities with order 0"),
        ("resampling_fn_data_kwargs", {"order": 3}, "data with force_separate_z False"),  # nnU-Net's default
        (
            "resampling_fn_seg_kwargs",
            {"is_seg": True, "order": 1, "force_separate_z": None, "mode": 7},
            "seg with mode 7",
        ),
        ("normalization_schemes", ["MyNormalization"], "no MyNormalization"),
    ],
)
def test_preprocessing_that_nnlite_does_not_have_is_refused_by_name(key: str, value: Any, told: str):
    content = plans()
    content["configurations"]["3d_fullres"][key] = value
    with pytest.raises(PlanError, match=f"3d_fullres: .*{told}"):
        plan_from_nnunet(content, dataset(), ["3d_fullres"])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"background": 0, "core": 1, "whole": [1]} | {"both": [1, 2], "all": [2, 1]}, "is in a later region too"),
        ({"background": 0, "ball": 1, "core": 3}, "without a gap"),
        ({"background": 0, "ball": 1, "core": 1}, "the same value 1"),
    ],
)
def test_labels_that_nnlite_does_not_have_are_refused(labels: dict[str, Any], told: str):
    with pytest.raises(PlanError, match=told):
        plan_from_nnunet(plans(), {**dataset(), "labels": labels})


def test_sides_are_not_exchanged_because_nnunet_does_not():
    content = {**dataset(), "labels": {"background": 0, "left lung": 1, "right lung": 2}}
    plan = plan_from_nnunet(plans(), content)
    assert plan.labels.mirrored == ()
    assert plan.configuration("3d").mirrored_axes == (0, 1, 2)


def test_regions_and_the_ignore_label_are_taken_over():
    table = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    found = plan_from_nnunet(plans(), {**dataset(), "labels": table, "regions_class_order": [1, 2]}).labels
    assert [(region.name, region.values, region.painted) for region in found.regions] == [
        ("whole", (1, 2), 1),
        ("core", (2,), 2),
    ]
    assert found.ignore == 3


@pytest.mark.parametrize("key", ["image_reader_writer", "label_manager"])
def test_readers_and_label_managers_of_another_kind_are_refused(key: str):
    with pytest.raises(PlanError, match="NibabelIOWithReorient"):
        plan_from_nnunet({**plans(), key: "NibabelIOWithReorient"}, dataset())


def test_what_is_no_plan_of_nnunet_is_told_with_the_missing_key():
    content = plans()
    del content["configurations"]["2d"]["spacing"]
    with pytest.raises(PlanError, match="no plans of nnU-Net v2: there is no 'spacing'"):
        plan_from_nnunet(content, dataset())
    with pytest.raises(PlanError, match="no plans of nnU-Net v2"):
        plan_from_nnunet({**plans(), "transpose_forward": [0, 1]}, dataset())

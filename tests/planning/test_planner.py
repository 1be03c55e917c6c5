from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlite.data.labels import Labels
from nnlite.data.records import from_json, to_json
from nnlite.errors import PlanError, UsageError
from nnlite.planning.cost import require_within_memory, step_gib
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties, from_nnunet
from nnlite.planning.gpu import LARGEST_BATCH, fit_gpu, usable_gib
from nnlite.planning.network import NetworkChoice
from nnlite.planning.nnunet import MEMORY_REFERENCES
from nnlite.planning.patch import LONGEST_PADDING, PatchFit
from nnlite.planning.planner import Configuration, Plan, make_plan

LABELS = Labels(names=("background", "organ", "lesion"), values=(0, 1, 2))
INTENSITIES = IntensityProperties(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
REFERENCE_PLANNERS = {
    "plain-8": ("plain", 8),
    "plain-16": ("plain", 16),
    "plain-24": ("plain", 24),
    "resenc-M": ("residual-M", None),
    "resenc-L": ("residual-L", None),
    "resenc-XL": ("residual-XL", None),
}
NAMES = {"2d": "2d", "3d_fullres": "3d", "3d_lowres": "3d-lowres", "3d_cascade_fullres": "3d-cascade"}
SCHEMES = {"CTNormalization": "ct", "ZScoreNormalization": "zscore"}
DATASETS = (
    "amos-ct",
    "copd-ct",
    "liver-ivim-mr",
    "lung-ct",
    "ms-lesions-mr",
    "petct",
    "pituitary-mr",
    "radio-bursts-2d-rgb",
)


def fingerprint(spacing=(1.0, 1.0, 1.0), shape=(36, 50, 35), cases: int = 10, channels: int = 1) -> Fingerprint:
    return Fingerprint(
        spacings_mm=(spacing,) * cases,
        shapes_after_crop=(shape,) * cases,
        intensities=(INTENSITIES,) * channels,
        median_relative_size_after_crop=1.0,
    )


def plan(found: Fingerprint, **options) -> Plan:
    channels = tuple(f"channel {index}" for index in range(len(found.intensities)))
    return make_plan(found, **{"dataset": "phantom", "channels": channels, "labels": LABELS, **options})


def decided(configuration: Configuration) -> dict[str, object]:
    """A configuration in the words of the reference files."""
    topology = configuration.topology
    blocks = [*topology.encoder_blocks]
    return {
        "patch_size": [*configuration.patch_size],
        "batch_size": configuration.batch_size,
        "spacing": [*configuration.spacing_mm],
        "median_image_size_in_voxels": [*configuration.median_shape],
        "normalization_schemes": [*configuration.normalization],
        "use_mask_for_norm": [*configuration.use_nonzero_mask],
        "batch_dice": configuration.batch_dice,
        "architecture": {
            "n_stages": topology.stages,
            "features_per_stage": [*topology.features],
            "kernel_sizes": [[*kernel] for kernel in topology.kernels],
            "strides": [[*stride] for stride in topology.strides],
            "n_conv_per_stage": blocks if topology.architecture == "unet" else None,
            "n_blocks_per_stage": blocks if topology.architecture == "resenc" else None,
            "n_conv_per_stage_decoder": [*topology.decoder_convolutions],
        },
    }


@pytest.mark.realdata
@pytest.mark.parametrize("dataset", DATASETS)
def test_plans_equal_those_of_nnunet_bit_for_bit(dataset: str, reference_plans: Path) -> None:
    found = from_nnunet(json.loads((reference_plans / dataset / "fingerprint.json").read_text()))
    reference = json.loads((reference_plans / dataset / "expected.json").read_text())
    names = ("background", *(f"label {value}" for value in range(1, reference["labels"])))
    labels = Labels(names=names, values=tuple(range(len(names))))
    assert set(reference["plans"]) == set(REFERENCE_PLANNERS)
    for key, (planner, memory_gib) in REFERENCE_PLANNERS.items():
        expected = reference["plans"][key]
        made = plan(
            found,
            channels=reference["channels"],
            labels=labels,
            planner=planner,
            memory_gib=memory_gib,
            preset="nnunet",
        )
        assert [*made.transpose] == expected["transpose_forward"]
        assert set(made.configurations) == {NAMES[name] for name in expected["configurations"]}
        for name, answer in expected["configurations"].items():
            configuration = made.configuration(NAMES[name])
            previous = answer.get("previous_stage")
            assert configuration.previous_stage == (NAMES[previous] if previous else None)
            answer = expected["configurations"][answer.get("inherits_from", name)]
            schemes = [SCHEMES[scheme] for scheme in answer["normalization_schemes"]]
            assert decided(configuration) == {**answer, "normalization_schemes": schemes}


spacings = st.tuples(*[st.floats(0.3, 6)] * 3)
shapes = st.tuples(*[st.integers(24, 600)] * 3)
targets = st.sampled_from([("cuda", "nnlite"), ("cuda", "nnunet"), ("cpu", "nnlite")])
options = st.builds(
    lambda target, planner: {"device": target[0], "preset": target[1], "planner": planner},
    targets,
    st.sampled_from(list(MEMORY_REFERENCES)),
)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(spacings, shapes, options)
def test_every_plan_can_be_trained_and_has_its_reasons(spacing, shape, options) -> None:
    made = plan(fingerprint(spacing, shape), **options)
    for configuration in made.configurations.values():
        for size, step in zip(configuration.patch_size, configuration.topology.divisor, strict=True):
            assert size % step == 0
        assert configuration.batch_size >= 2
        assert configuration.topology.stages >= 2
        undecided = {"name", "reasons", "measured", "correction"}
        assert set(configuration.__slots__) - undecided <= set(configuration.reasons)
    assert set(made.configurations) | set(made.reasons) >= {"2d", "3d", "3d-lowres", "3d-cascade"}


@settings(derandomize=True, deadline=None, max_examples=20)
@given(spacings, shapes, options)
def test_no_patch_is_longer_than_the_image_padded_to_the_network_s_divisor(spacing, shape, options) -> None:
    for configuration in plan(fingerprint(spacing, shape), **options).configurations.values():
        sizes = zip(configuration.patch_size, configuration.median_shape, configuration.topology.divisor, strict=True)
        for size, whole, step in sizes:
            assert size < whole + step
            if options["preset"] == "nnlite":
                assert size <= LONGEST_PADDING * whole


@settings(derandomize=True, deadline=None, max_examples=20)
@given(spacings, shapes, st.sampled_from(list(MEMORY_REFERENCES)), st.floats(1, 80), st.integers(1, 500))
def test_the_prediction_is_never_above_the_memory(spacing, shape, planner, memory_gib: float, cases: int) -> None:
    made = plan(fingerprint(spacing, shape, cases), planner=planner, memory_gib=memory_gib)
    for configuration in made.configurations.values():
        assert step_gib(made, configuration) <= usable_gib(memory_gib)
        assert 2 <= configuration.batch_size <= LARGEST_BATCH[configuration.topology.ndim]
    require_within_memory(plan(fingerprint(spacing, shape, cases), planner=planner, memory_gib=memory_gib))


@settings(derandomize=True, deadline=None, max_examples=12)
@given(spacings, shapes, options, st.sampled_from([0.25, 2.0, 8.0]))
def test_in_other_units_only_the_spacing_changes(spacing, shape, options, scale: float) -> None:
    first = plan(fingerprint(spacing, shape), **options)
    scaled = plan(fingerprint(tuple(scale * step for step in spacing), shape), **options)
    assert scaled.transpose == first.transpose
    assert set(scaled.configurations) == set(first.configurations)
    for name, configuration in first.configurations.items():
        spacing_mm = tuple(scale * step for step in configuration.spacing_mm)
        expected = replace(configuration, spacing_mm=spacing_mm, reasons={})
        assert replace(scaled.configurations[name], reasons={}) == expected


@settings(derandomize=True, deadline=None, max_examples=8)
@given(spacings, shapes, options)
def test_the_same_fingerprint_gives_the_same_plan_and_survives_its_file(spacing, shape, options) -> None:
    made = plan(fingerprint(spacing, shape), **options)
    assert plan(fingerprint(spacing, shape), **options) == made
    assert from_json(to_json(made), Plan, source="plan.json") == made


def test_a_small_image_needs_no_low_resolution_and_the_plan_says_why() -> None:
    made = plan(fingerprint())
    assert list(made.configurations) == ["2d", "3d"]
    assert made.configuration("3d").patch_size == (40, 56, 40)
    with pytest.raises(
        UsageError, match="phantom has no configuration 3d-lowres: at full resolution the patch already"
    ):
        made.configuration("3d-lowres")
    with pytest.raises(UsageError, match="'4d' is not a configuration of phantom; there are 2d, 3d"):
        made.configuration("4d")


def test_a_large_image_gets_a_low_resolution_and_a_cascade_on_it() -> None:
    made = plan(fingerprint(shape=(400, 400, 400)))
    assert list(made.configurations) == ["2d", "3d", "3d-lowres", "3d-cascade"]
    full, low, cascade = (made.configuration(name) for name in ("3d", "3d-lowres", "3d-cascade"))
    assert (full.batch_dice, low.batch_dice) == (True, False)
    assert cascade.previous_stage == "3d-lowres"
    assert (cascade.patch_size, cascade.spacing_mm) == (full.patch_size, full.spacing_mm)


def test_flat_images_are_planned_in_2d_only() -> None:
    made = plan(
        fingerprint((999.0, 1.0, 1.0), (1, 256, 320), channels=3), channels=("rgb-red", "rgb-green", "rgb-blue")
    )
    assert list(made.configurations) == ["2d"]
    assert made.configuration("2d").normalization == ("rgb_to_0_1",) * 3
    assert "flat" in made.reasons["3d"]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_stored_as_a_volume_is_planned_as_a_2d_image_whatever_its_thickness(device: str, axis: int) -> None:
    def stored(thickness_mm: float) -> Plan:
        spacing, shape = [4.07, 4.07], [168, 160]
        spacing.insert(axis, thickness_mm)
        shape.insert(axis, 1)
        return plan(fingerprint(tuple(spacing), tuple(shape)), device=device)

    thin, thick = stored(3.0), stored(999.0)
    assert (thin.transpose[0], thin.transpose) == (axis, thick.transpose)
    assert list(thin.configurations) == ["2d"]
    assert replace(thin.configuration("2d"), reasons={}) == replace(thick.configuration("2d"), reasons={})
    assert thin.reasons["3d"] == "the images are flat: 1 x 168 x 160 voxels in the median case"
    assert thin.reasons["transpose"].startswith(f"the median image is one voxel deep along axis {'zyx'[axis]}")


def test_slices_of_many_thicknesses_are_flat_as_well() -> None:
    # thick and few, so that the target is percentile 10: 5 mm; the median slice, 9 mm, would become two
    found = [fingerprint((float(thickness), 1.0, 1.0), (1, 256, 320), cases=1) for thickness in range(4, 15)]
    every = replace(
        found[0],
        spacings_mm=tuple(one.spacings_mm[0] for one in found),
        shapes_after_crop=tuple(one.shapes_after_crop[0] for one in found),
    )
    assert list(plan(every).configurations) == ["2d"]


def test_nnunet_s_preset_takes_the_coarsest_axis_for_that_of_the_slices() -> None:
    assert plan(fingerprint((3.0, 4.07, 4.07), (1, 168, 160)), preset="nnunet").transpose == (1, 0, 2)


def test_a_long_thin_volume_is_planned_in_3d_only() -> None:
    made = plan(fingerprint((2.1, 2.0, 2.0), (64, 7, 11)))
    assert list(made.configurations) == ["3d"]
    assert "too small for a U-Net" in made.reasons["2d"]


def test_images_too_small_for_anything_are_refused() -> None:
    with pytest.raises(PlanError, match="too small for a U-Net"):
        plan(fingerprint((999.0, 1.0, 1.0), (1, 7, 7)))


def test_slices_too_small_for_a_network_without_padding_are_left_out_as_for_any_other() -> None:
    made = plan(fingerprint((2.1, 2.0, 2.0), (64, 7, 11)), network=NetworkChoice(architecture="unet-2015"))
    assert list(made.configurations) == ["3d"]
    assert "too small for a U-Net" in made.reasons["2d"]


def test_volumes_for_which_there_is_no_network_are_refused_by_name() -> None:
    with pytest.raises(PlanError, match=r"^3d cannot be planned: patches of 7 x 7 x 7 voxels .* too small for a U-Net"):
        plan(fingerprint(shape=(7, 7, 7)))


def test_a_cascade_that_does_not_fit_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(spacing_mm, median_shape, dataset_voxels, *, channels: int, **options) -> PatchFit:
        if channels > 1:
            raise PlanError("3 channels are too many")
        return fit_gpu(spacing_mm, median_shape, dataset_voxels, channels=channels, **options)

    monkeypatch.setattr("nnlite.planning.planner.fit_gpu", too_much)
    made = plan(fingerprint(shape=(400, 400, 400)))
    assert list(made.configurations) == ["2d", "3d", "3d-lowres"]
    assert made.reasons["3d-cascade"] == "3 channels are too many"


def test_a_cpu_plan_has_no_gpu_memory_and_says_what_it_is_for() -> None:
    made = plan(fingerprint(), device="cpu", memory_gib=24)
    assert made.memory_gib is None
    assert "CPU" in made.reasons["planner"]


def test_the_memory_is_the_planners_own_unless_given() -> None:
    assert plan(fingerprint(), planner="residual-L").memory_gib == 24
    assert plan(fingerprint(), planner="residual-L", memory_gib=12).memory_gib == 12
    with pytest.raises(PlanError, match=r"0\.1 GiB of GPU memory"):
        plan(fingerprint(), memory_gib=0.1)


def test_the_z_score_leaves_zeros_out_when_much_was_cropped_away_and_other_schemes_do_not() -> None:
    cropped = replace(fingerprint(channels=2), median_relative_size_after_crop=0.74)
    assert plan(cropped, channels=("T1", "CT")).configuration("3d").use_nonzero_mask == (True, False)
    kept = replace(cropped, median_relative_size_after_crop=0.75)
    assert plan(kept, channels=("T1", "CT")).configuration("3d").use_nonzero_mask == (False, False)


def test_one_case_is_enough_for_a_plan() -> None:
    assert plan(fingerprint(cases=1)).configuration("3d").batch_size == 2


@pytest.mark.parametrize("planner", MEMORY_REFERENCES)
def test_too_little_memory_is_one_message_whatever_the_network(planner) -> None:
    with pytest.raises(PlanError, match=r"0\.5 GiB of GPU memory cannot be planned for, training needs at least 1 GiB"):
        plan(fingerprint(), planner=planner, memory_gib=0.5)


def test_nnunet_has_no_plan_for_a_cpu() -> None:
    with pytest.raises(PlanError, match="preset nnunet has plans for GPUs only"):
        plan(fingerprint(), device="cpu", preset="nnunet")


def test_the_order_of_the_axes_is_explained_with_its_numbers() -> None:
    reason = plan(fingerprint((3.3, 1.0, 1.5), (60, 200, 200))).reasons["transpose"]
    assert reason.endswith("3.3 mm, 3.3 x coarser than y with 1 mm")


def test_images_without_sizes_are_told_from_others_whatever_a_spacing_becomes() -> None:
    large = plan(fingerprint(shape=(64, 1024, 1024)), memory_gib=8)
    assert large.configurations["3d-lowres"].spacing_mm > (1.0, 1.0, 1.0)
    assert not large.sized_images
    assert not plan(fingerprint((999.0, 1.0, 1.0), (1, 60, 60))).sized_images
    assert plan(fingerprint((1.0, 0.5, 0.5))).sized_images
    content = json.loads(to_json(large))
    del content["sized_images"]  # as in older plans
    assert from_json(json.dumps(content), Plan, source="plan.json").sized_images


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(PlanError, match=r"2 channel names \(T1, T2\) for images of 1 channels"):
        plan(fingerprint(), channels=("T1", "T2"))
    with pytest.raises(PlanError, match="no label besides the background"):
        plan(fingerprint(), labels=Labels(names=("background",), values=(0,)))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda content: content.update(transpose=[0, 0, 1]), "transpose"),
        (lambda content: content.update(colour="blue"), "colour: Unexpected keyword argument"),
        (lambda content: content["configurations"]["3d"].update(patch=[1]), "configurations.3d.patch: Unexpected"),
        (lambda content: content.update(memory_gib=None), "memory_gib is None for cuda"),
        (lambda content: content.update(memory_gib=0.2), "0.2 GiB of GPU memory cannot be planned for"),
        (lambda content: content.update(channels=["a", "b"]), "2 channels but 1 intensities"),
        (
            lambda content: content["configurations"]["3d"].update(patch_size=[40, 56, 41]),
            "3d: patch_size 40 x 56 x 41",
        ),
        (lambda content: content["configurations"]["3d"].update(name="3d-lowres"), "is named 3d-lowres"),
        (lambda content: content["configurations"]["3d"].update(normalization=["magic"]), "3d.normalization"),
        (
            lambda content: content["configurations"]["3d"].update(
                normalization=["ct"] * 2, use_nonzero_mask=[False] * 2
            ),
            "2 entries for 1 channels",
        ),
        (
            lambda content: content["configurations"].update(
                {
                    "3d-cascade": {
                        **content["configurations"]["3d"],
                        "name": "3d-cascade",
                        "previous_stage": "3d-lowres",
                    }
                }
            ),
            "3d-lowres is not planned",
        ),
    ],
)
def test_an_edited_plan_that_makes_no_sense_names_the_key(edit, words: str) -> None:
    content = json.loads(to_json(plan(fingerprint())))
    edit(content)
    with pytest.raises(PlanError, match=words):
        from_json(json.dumps(content), Plan, source="plan.json", error=PlanError)


@pytest.mark.parametrize(("device", "words"), [("cuda", "memory for a larger patch"), ("cpu", "may get smaller")])
def test_the_device_tells_what_computing_twice_is_good_for(device: str, words: str) -> None:
    made = plan(fingerprint(), device=device, network=NetworkChoice(checkpointing=True))
    assert made.reasons["checkpointing"].endswith(words)

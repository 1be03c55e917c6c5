"""nnU-Net's plan for a dataset that is trained in nnlite: the same decisions, or a refusal with both sides' names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nnunet_files import STATISTICS, dataset, early, plans, settings

from nnlite.data.labels import Labels
from nnlite.errors import PlanError
from nnlite.interop.nnunet_transfer import read_nnunet_plans, transfer_nnunet
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties, from_nnunet
from nnlite.planning.planner import Plan, make_plan

LABELS = Labels(names=("background", "ball", "core"), values=(0, 1, 7))
OWN = IntensityProperties(mean=9.0, median=9, std=1, min=0, max=20, percentile_00_5=1, percentile_99_5=19)


def fingerprint(
    spacing: tuple[float, float, float] = (2.0, 1.5, 1.5), shape: tuple[int, int, int] = (16, 20, 18)
) -> Fingerprint:
    return Fingerprint(
        spacings_mm=(spacing,) * 6,
        shapes_after_crop=(shape,) * 6,
        intensities=(OWN,),
        median_relative_size_after_crop=1.0,
    )


def written(folder: Path, content: dict[str, Any], beside: dict[str, Any] | None = None, name: str = "plans") -> Path:
    file = folder / f"{name}.json"
    file.write_text(json.dumps(content))
    if beside is not None:
        (folder / "dataset.json").write_text(json.dumps(beside))
    return file


def taken(file: Path, found: Fingerprint | None = None, **others: Any) -> Plan:
    options: dict[str, Any] = {"dataset": "balls", "channels": ("MR",), "labels": LABELS, **others}
    return transfer_nnunet(read_nnunet_plans(file), found or fingerprint(), **options)


def test_every_decision_is_nnunet_s_and_the_dataset_is_the_own_one(tmp_path: Path):
    plan = taken(written(tmp_path, plans(), dataset()))
    assert (plan.dataset, plan.labels, plan.channels, plan.training_cases) == ("balls", LABELS, ("MR",), 6)
    assert (plan.device, plan.preset, plan.transpose) == ("cuda", "nnunet", (0, 1, 2))
    assert plan.intensities[0].mean == STATISTICS["mean"]  # what nnU-Net normalises with
    full, given = plan.configuration("3d"), settings()
    assert full.patch_size == tuple(given["patch_size"])
    assert (full.batch_size, full.spacing_mm, full.batch_dice) == (2, (2.0, 1.5, 1.5), True)
    assert full.topology.features == (4, 6, 8)
    assert (full.epochs, full.iterations) == (1000, 250)
    assert plan.configuration("3d-cascade").previous_stage == "3d-lowres"
    assert plan.configuration("3d-lowres").median_shape == (11, 10, 9)  # 16 x 20 x 18 of 2, 1.5, 1.5 mm at 3 mm
    assert "plans.json for Dataset007_Balls" in full.reasons["all"]


def test_plans_are_found_in_the_folder_of_a_model_and_of_the_preprocessed_data(tmp_path: Path):
    for name in ("plans", "nnUNetPlans"):
        folder = tmp_path / name
        folder.mkdir()
        file = written(folder, plans(), name=name)
        assert read_nnunet_plans(folder).path == file


def test_plans_of_early_versions_say_the_same(tmp_path: Path):
    content = plans()
    content["configurations"] = {"3d_fullres": settings()}
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    new = written(tmp_path / "new", content)
    content["configurations"] = {"3d_fullres": early(settings())}
    content["foreground_intensity_properties_by_modality"] = content.pop("foreground_intensity_properties_per_channel")
    old = taken(written(tmp_path / "old", content)).configuration("3d")
    newer = taken(new).configuration("3d")
    assert (old.patch_size, old.topology.strides) == (newer.patch_size, newer.topology.strides)
    assert old.topology.features == (4, 6, 6)  # early plans cap all widths at one number, here 6


def test_other_channels_and_labels_are_told_together_with_both_sides(tmp_path: Path):
    file = written(tmp_path, plans(), dataset())
    tumours = Labels(names=("background", "tumour"), values=(0, 1))
    with pytest.raises(PlanError) as told:
        taken(file, channels=("CT",), labels=tumours)
    message = str(told.value)
    assert f"{file} does not fit balls: " in message
    assert "the channels MR, and it has CT" in message
    assert "the labels background, ball, core, and it has background, tumour" in message
    assert "copy the plans to a folder without dataset.json" in message


def test_plans_alone_are_trained_with_the_dataset_s_own_names(tmp_path: Path):
    tumours = Labels(names=("background", "tumour"), values=(0, 1))
    plan = taken(written(tmp_path, plans()), channels=("CT",), labels=tumours)
    assert (plan.channels, plan.labels) == (("CT",), tumours)
    assert plan.configuration("3d").normalization == ("zscore",)  # the plans', not that of a channel named CT


def test_another_number_of_channels_is_refused(tmp_path: Path):
    with pytest.raises(PlanError, match=r"the plans normalise 1 channel, and it has 2 \(T1, T2\): take plans"):
        taken(written(tmp_path, plans()), channels=("T1", "T2"))


def test_flat_images_take_the_2d_configuration_only(tmp_path: Path):
    flat = fingerprint(shape=(1, 200, 180))
    plan = taken(written(tmp_path, plans()), flat)
    assert list(plan.configurations) == ["2d"]
    content = plans()
    del content["configurations"]["2d"]
    with pytest.raises(PlanError, match="balls has flat images, and the plan of Dataset007_Balls has no configurat"):
        taken(written(tmp_path, content), flat)


def test_the_order_of_axes_follows_the_spacing_where_files_are_stored_in_another(tmp_path: Path):
    content = plans() | {"transpose_forward": [2, 0, 1], "original_median_spacing_after_transp": [3.0, 1.0, 0.8]}
    file = written(tmp_path, content)
    as_stored = taken(file, fingerprint((1.0, 0.8, 3.0)))
    assert as_stored.transpose == (2, 0, 1)
    reoriented = taken(file, fingerprint((3.0, 0.8, 1.0)))
    assert reoriented.transpose == (0, 2, 1)
    assert "nnU-Net's (2, 0, 1) is for the order of axes in the files" in reoriented.reasons["transpose"]
    assert taken(file, fingerprint((7.0, 7.0, 7.0))).transpose == (2, 0, 1)  # another dataset: as the plans say


def test_a_plan_for_a_large_gpu_is_not_refused_for_its_memory(tmp_path: Path):
    content = plans()
    content["configurations"] = {"3d_fullres": settings() | {"patch_size": [64, 128, 128], "batch_size": 200}}
    plan = taken(written(tmp_path, content))
    assert plan.memory_gib is not None
    assert plan.memory_gib > 8
    assert "does not say for which GPU" in plan.reasons["memory_gib"]


def test_what_is_no_plans_file_is_told_with_its_name(tmp_path: Path):
    with pytest.raises(PlanError, match=r"plans\.json cannot be read"):
        read_nnunet_plans(tmp_path)
    file = written(tmp_path, {"format_version": 1})
    with pytest.raises(PlanError, match="is a plan of nnlite's own; follow it with --from instead"):
        read_nnunet_plans(file)
    content = plans()
    content["configurations"]["3d_fullres"]["preprocessor_name"] = "MyPreprocessor"
    with pytest.raises(PlanError, match=r"plans\.json: 3d_fullres: nnlite has no preprocessor MyPreprocessor"):
        read_nnunet_plans(written(tmp_path, content))
    del content["foreground_intensity_properties_per_channel"]
    with pytest.raises(
        PlanError, match=r"no 'foreground_intensity_properties_per_channel'; give the nnUNetPlans\.json"
    ):
        read_nnunet_plans(written(tmp_path, content))


def as_plans_json(answer: dict[str, Any], found: dict[str, Any], name: str) -> dict[str, Any]:
    """What nnU-Net's planner answered, with all that its plans.json has around it."""
    configurations = {}
    for configuration, own in answer["configurations"].items():
        if "inherits_from" in own:
            configurations[configuration] = own
            continue
        whole = settings(ndim=len(own["patch_size"]))
        architecture = whole.pop("architecture")
        blocks = {key: value for key, value in own["architecture"].items() if value is not None}
        kept = {key: value for key, value in architecture["arch_kwargs"].items() if key not in own["architecture"]}
        encoder = "ResidualEncoderUNet" if "n_blocks_per_stage" in blocks else "PlainConvUNet"
        path = f"dynamic_network_architectures.architectures.unet.{encoder}"
        network = {"network_class_name": path, "arch_kwargs": {**kept, **blocks}}
        configurations[configuration] = {**whole, **own, "architecture": network}
    return {
        **plans(),
        "dataset_name": name,
        "transpose_forward": answer["transpose_forward"],
        "foreground_intensity_properties_per_channel": found["foreground_intensity_properties_per_channel"],
        "configurations": configurations,
    }


@pytest.mark.realdata
@pytest.mark.parametrize("preset", ["plain-24", "resenc-M"])
@pytest.mark.parametrize("name", ["amos-ct", "liver-ivim-mr", "ms-lesions-mr", "radio-bursts-2d-rgb"])
def test_plans_of_published_datasets_come_out_as_nnlite_plans_them_itself(
    name: str, preset: str, reference_plans: Path, tmp_path: Path
):
    found = json.loads((reference_plans / name / "fingerprint.json").read_text())
    expected = json.loads((reference_plans / name / "expected.json").read_text())
    labels = Labels.from_table({f"label {value}": value for value in range(1, expected["labels"])})
    options: dict[str, Any] = {"dataset": name, "channels": expected["channels"], "labels": labels}
    file = written(tmp_path, as_plans_json(expected["plans"][preset], found, name))
    followed = taken(file, from_nnunet(found), **options)
    planner, memory_gib = ("plain", 24.0) if preset == "plain-24" else ("residual-M", 8.0)
    made = make_plan(from_nnunet(found), preset="nnunet", planner=planner, memory_gib=memory_gib, **options)
    assert (followed.transpose, list(followed.configurations)) == (made.transpose, list(made.configurations))
    for key, one in made.configurations.items():
        same = replace(followed.configuration(key), reasons={}, median_shape=one.median_shape)  # which it counts itself
        assert same == replace(one, reasons={})

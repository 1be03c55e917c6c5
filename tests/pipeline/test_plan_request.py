"""A request to plan is refused before any case is read where its parts do not fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import INTENSITY, plan

from nnlite.data.records import write_record
from nnlite.errors import PlanError, UsageError
from nnlite.pipeline.plan_request import plan_request, read_plan_file
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.network import NetworkChoice, NetworkOptions
from nnlite.planning.variants import as_variant

VNET = NetworkOptions(architecture="vnet")


def test_a_cpu_has_no_memory_to_plan_for_and_the_default_preset_is_nnlite() -> None:
    request = plan_request(device="cpu")
    assert (request.device, request.memory_gib, request.planner, request.preset) == ("cpu", None, "plain", "nnlite")


@pytest.mark.parametrize(("letter", "planner"), [(None, "plain"), ("M", "residual-M"), ("XL", "residual-XL")])
def test_a_letter_chooses_the_residual_encoder(letter, planner: str) -> None:
    assert plan_request(preset="nnunet", residual=letter).planner == planner


def test_a_gpu_that_is_named_by_its_memory_need_not_be_there() -> None:
    request = plan_request(device="cuda", memory_gib=24)
    assert (request.device, request.memory_gib) == ("cuda", 24)


def test_the_preset_of_nnunet_knows_no_cpu() -> None:
    with pytest.raises(UsageError, match="--preset nnunet has plans for GPUs only"):
        plan_request(device="cpu", preset="nnunet")


@pytest.mark.parametrize(
    "option", [{"device": "cpu"}, {"memory_gib": 8.0}, {"preset": "nnunet"}, {"residual": "L"}, {"network": VNET}]
)
def test_another_plan_brings_device_memory_and_network_with_it(option: dict, tmp_path: Path) -> None:
    write_record(tmp_path / "plan.json", plan())
    request = plan_request(from_plan=tmp_path)
    assert (request.device, request.other) == ("cpu", plan())
    with pytest.raises(UsageError, match="--from takes device, memory and network from the other plan"):
        plan_request(from_plan=tmp_path, **option)


@pytest.mark.parametrize("option", [{"hu_windows": "lung"}, {"hu_masks": "200:"}])
def test_who_follows_a_plan_has_its_channels(option: dict, tmp_path: Path) -> None:
    write_record(tmp_path / "plan.json", plan())
    with pytest.raises(UsageError, match="--from decides what a network sees; leave out --hu-windows"):
        plan_request(from_plan=tmp_path, **option)
    with pytest.raises(UsageError, match="--preset nnunet decides what a network sees"):
        plan_request(preset="nnunet", **option)
    with pytest.raises(PlanError, match=r"none of the channels \(MR\) is"):
        plan_request(device="cpu", **option).require_channels(["MR"])


@pytest.mark.parametrize(
    ("key", "left_open"),
    [
        ("mirror_axes=none", True),
        ("batch_dice=true", True),
        ("normalization=ct", True),
        ("patch_size=32,32,32", False),
        ("batch_size=2", False),
        ("spacing_mm=2,1,1", False),
        ("kernel=5", False),
        ("checkpointing=true", False),
    ],
)
def test_patch_and_batch_follow_a_measurement_unless_what_a_step_needs_is_set_by_hand(key: str, left_open: bool):
    assert plan_request(device="cuda", memory_gib=24, overrides=[f"3d.{key}"]).leaves_size_open == left_open


def test_the_plan_of_a_variant_is_followed_under_the_names_of_any_plan(tmp_path: Path) -> None:
    write_record(tmp_path / "plan@big.json", as_variant(plan("3d-cascade"), "big"))
    assert plan_request(from_plan=tmp_path / "plan@big.json").other == plan("3d-cascade")


def test_a_single_channel_is_not_kept_apart_and_a_plan_that_is_followed_has_its_own_network(tmp_path: Path) -> None:
    request = plan_request(device="cpu", network=NetworkOptions(fusion="separate"))
    request.require_channels(["T1", "T2"])
    with pytest.raises(PlanError, match=r"--fusion separate .* there is only one, T1; leave it out"):
        request.require_channels(["T1"])
    write_record(tmp_path / "plan.json", replace(plan(), network=NetworkChoice(fusion="separate", sequences=2)))
    plan_request(from_plan=tmp_path).require_channels(["MR"])  # which channels it is for is told when it is taken


def test_a_plan_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    write_record(tmp_path / "plan.json", plan())
    assert read_plan_file(tmp_path) == read_plan_file(tmp_path / "plan.json") == plan()
    with pytest.raises(PlanError, match=r"nowhere.*cannot be read"):
        read_plan_file(tmp_path / "nowhere")


def test_an_architecture_is_passed_on_and_a_residual_one_is_planned_as_the_smallest_of_nnunet_s() -> None:
    request = plan_request(network=NetworkOptions(architecture="vnet", kernel=5, checkpointing=True))
    assert request.network == NetworkChoice(architecture="vnet", kernel=5, checkpointing=True)
    assert request.planner == "plain"
    assert plan_request(network=NetworkOptions(architecture="resenc")).planner == "residual-M"
    assert plan_request(residual="L").network == NetworkChoice(architecture="resenc")


@pytest.mark.parametrize("network", [VNET, NetworkOptions(kernel=5), NetworkOptions(checkpointing=True)])
def test_the_preset_of_nnunet_knows_only_what_nnunet_does(network: NetworkOptions) -> None:
    with pytest.raises(UsageError, match="--preset nnunet plans exactly what nnU-Net would: --architecture unet or"):
        plan_request(preset="nnunet", network=network)


@pytest.mark.parametrize(("left", "masked"), [(0.4, True), (0.9, False)])
def test_a_normalisation_by_hand_takes_the_mask_that_images_like_these_are_planned_with(left: float, masked: bool):
    found = Fingerprint(
        spacings_mm=((1.0, 1.0, 1.0),) * 5,
        shapes_after_crop=((32, 32, 32),) * 5,
        intensities=(INTENSITY,),
        median_relative_size_after_crop=left,
    )
    options = {"dataset": "d", "labels": plan().labels}
    by_hand = plan_request(device="cpu", overrides=["3d.normalization=zscore"])
    made = by_hand.decide(found, channels=["noNorm"], **options)
    by_name = plan_request(device="cpu").decide(found, channels=["T1"], **options)
    assert made.configuration("3d").use_nonzero_mask == by_name.configuration("3d").use_nonzero_mask == (masked,)
    assert made.configuration("2d").use_nonzero_mask == (False,)

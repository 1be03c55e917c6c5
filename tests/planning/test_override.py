from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlite.data.labels import Labels
from nnlite.errors import PlanError, UsageError
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties
from nnlite.planning.network import NetworkChoice
from nnlite.planning.override import override, parse_override
from nnlite.planning.planner import Plan, make_plan
from nnlite.planning.topology import plan_topology


def plan(
    shape=(400, 400, 400), device="cuda", network: NetworkChoice | None = None, channels=("MR",), relative_size=0.5
) -> Plan:
    some = IntensityProperties(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
    found = Fingerprint(
        spacings_mm=((1.0, 1.0, 1.0),) * 10,
        shapes_after_crop=(shape,) * 10,
        intensities=(some,) * len(channels),
        median_relative_size_after_crop=relative_size,
    )
    labels = Labels(names=("background", "organ"), values=(0, 1))
    return make_plan(found, dataset="phantom", channels=channels, labels=labels, device=device, network=network)


def changed(*texts: str, **options) -> Plan:
    return override(plan(**options), [parse_override(text) for text in texts])


def test_a_patch_set_by_hand_brings_the_network_that_belongs_to_it() -> None:
    made = changed("3d.patch_size=64,64,32")
    full, cascade = made.configuration("3d"), made.configuration("3d-cascade")
    assert full.patch_size == cascade.patch_size == (64, 64, 32)
    assert full.topology == cascade.topology == plan_topology((1.0, 1.0, 1.0), (64, 64, 32))[0]
    assert full.reasons["patch_size"] == "set by hand: 3d.patch_size=64,64,32"
    before, low = plan().configuration("3d-lowres"), made.configuration("3d-lowres")
    assert replace(low, reasons=before.reasons) == before


OUTDATED = "as planned before what was set by hand: "


@pytest.mark.parametrize("text", ["patch_size=64,64,64", "spacing_mm=2,2,2", "batch_size=4", "kernel=5"])
def test_reasons_do_not_go_on_with_numbers_of_sizes_that_were_planned(text: str) -> None:
    planned, full = plan().configuration("3d"), changed(f"3d.{text}").configuration("3d")
    for key in ("patch_size", "batch_size", "epochs", "batch_dice"):
        if not text.startswith(key):
            assert full.reasons[key] == f"{OUTDATED}{planned.reasons[key]}"
    assert full.reasons["normalization"] == planned.reasons["normalization"]
    again = override(changed(f"3d.{text}"), [parse_override("3d.checkpointing=true")]).configuration("3d")
    assert {**full.reasons, "checkpointing": "set by hand: 3d.checkpointing=true"} == again.reasons


@pytest.mark.parametrize("edge", [100, 400])  # without a low resolution, and with one
def test_reasons_for_a_low_resolution_are_those_of_the_patch_that_was_planned(edge: int) -> None:
    shape = (edge,) * 3
    planned = plan(shape)
    assert ("3d-lowres" in planned.reasons) == (edge == 100) != ("3d-lowres" in planned.configurations)
    for text, told in (("3d.patch_size=64,64,64", False), ("3d.spacing_mm=2,2,2", True), ("3d.batch_dice=true", None)):
        made = changed(text, shape=shape)
        assert made.reasons["transpose"].startswith(OUTDATED) == bool(told)
        for name in ("3d-lowres", "3d-cascade"):
            if name in planned.reasons:
                assert made.reasons[name].startswith(OUTDATED) == (told is not None)
        if low := made.configurations.get("3d-lowres"):
            assert low.reasons["spacing_mm"].startswith(OUTDATED) == (told is not None)


def test_a_cpu_s_network_keeps_its_width() -> None:
    planned = plan(shape=(36, 50, 35), device="cpu").configuration("3d").topology
    topology = changed("3d.patch_size=128,128,128", shape=(36, 50, 35), device="cpu").configuration("3d").topology
    assert planned.features == (16, 32, 64, 128)
    assert topology.features == (16, 32, 64, 128, 256, 256)  # 128 is halved five times down to 4; 256 at most


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.tuples(*[st.integers(8, 200)] * 3))
def test_a_patch_that_is_not_divisible_is_answered_with_one_that_is(patch: tuple[int, int, int]) -> None:
    text = "3d.patch_size=" + ",".join(map(str, patch))
    try:
        changed(text)
    except PlanError as problem:
        remedy = str(problem).rpartition("--set ")[2]
        assert changed(remedy).configuration("3d").reasons["patch_size"] == f"set by hand: {remedy}"


def test_a_spacing_set_by_hand_changes_the_median_image_and_the_kernels() -> None:
    full = changed("3d.spacing_mm=4,1,1").configuration("3d")
    assert full.median_shape == (100, 400, 400)
    assert full.topology.kernels[0] == (1, 3, 3)


def test_a_normalisation_set_by_hand_uses_the_mask_only_where_it_is_a_z_score() -> None:
    assert plan().configuration("2d").use_nonzero_mask == (True,)
    made = changed("2d.normalization=ct", "2d.batch_size=3", "2d.batch_dice=false").configuration("2d")
    assert (made.normalization, made.use_nonzero_mask) == (("ct",), (False,))
    assert (made.batch_size, made.batch_dice) == (3, False)


@pytest.mark.parametrize(("left", "masked"), [(0.4, True), (0.9, False)])
def test_a_z_score_set_by_hand_brings_the_mask_that_belongs_to_it(left: float, masked: bool) -> None:
    made = plan(channels=("noNorm", "T1"), relative_size=left)
    assert made.configuration("2d").use_nonzero_mask == (False, masked)
    for now in (
        0.4,
        0.9,
    ):  # as many voxels are left in the dataset that is planned for, which may follow another's plan
        [change] = [parse_override("2d.normalization=zscore,zscore")]
        one = override(made, [change], relative_size=now).configuration("2d")
        assert one.use_nonzero_mask == (now == 0.4, masked)  # T1 keeps what it has
        assert f"leaves {now:.0%} of the median image" in one.reasons["use_nonzero_mask"]


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_set_for_the_cascade_itself_holds_there_in_whatever_order(order: int) -> None:
    texts = ["3d-cascade.batch_size=3", "3d.batch_size=4", "3d.batch_dice=false"]
    made = changed(*texts[::order])
    cascade = made.configuration("3d-cascade")
    assert (made.configuration("3d").batch_size, cascade.batch_size, cascade.batch_dice) == (4, 3, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3d.patch_size", "sets nothing; write CONFIG.KEY=VALUE, for example 3d.patch_size=96,96,96"),
        ("patch_size=9", "sets nothing"),
        ("3d.patch=9", 'there is no key "patch" to set; KEY is one of spacing_mm, patch_size, batch_size'),
        ("3d.patch_size=9,x,9", "patch_size must be positive whole numbers as 96,96,96"),
        ("3d.patch_size=-8,8,8", "patch_size must be positive whole numbers"),
        ("3d.spacing_mm=nan,1,1", "spacing_mm must be positive numbers"),
        ("3d.batch_size=0", "batch_size must be a positive whole number"),
        ("3d.batch_dice=maybe", "batch_dice must be true or false"),
        ("3d.normalization=magic", "normalization must be per channel one of ct, zscore"),
        ("4d.batch_size=2", "'4d' is not a configuration of phantom; there are 2d, 3d"),
    ],
)
def test_what_cannot_be_understood_is_answered_with_how_to_write_it(text: str, words: str) -> None:
    with pytest.raises(UsageError) as problem:
        changed(text)
    assert words in str(problem.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3d.patch_size=90,96,96", r"90 x 96 x 96 is not divisible by 16 x 16 x 16, .* --set 3d.patch_size=96,96,96"),
        ("3d.patch_size=96,96", "patch_size of 3d needs 3 entries"),
        ("2d.patch_size=96,96,96", "patch_size of 2d needs 2 entries"),
        ("3d.patch_size=4,4,4", "too small for a U-Net"),
        ("3d.normalization=ct,ct", "normalization of 3d needs 1 entries"),
    ],
)
def test_what_cannot_be_trained_is_refused(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        changed(text)


def test_a_patch_too_small_for_a_network_without_padding_is_refused_as_for_any_other() -> None:
    with pytest.raises(PlanError, match="too small for a U-Net"):
        changed("3d.patch_size=4,4,4", network=NetworkChoice(architecture="unet-2015"))


def test_kernels_and_checkpointing_set_by_hand_stay_when_the_patch_changes() -> None:
    topology = changed("3d.kernel=5", "3d.checkpointing=true", "3d.patch_size=64,64,64").configuration("3d").topology
    assert (set(topology.kernels), topology.checkpointing) == ({(5, 5, 5)}, True)
    made = changed("3d.kernel=5")
    assert made.configuration("3d").topology.kernels[0] == (5, 5, 5)
    assert made.configuration("3d").patch_size == plan().configuration("3d").patch_size
    assert made.configuration("3d").reasons["kernel"] == "set by hand: 3d.kernel=5"
    assert made.configuration("2d") == plan().configuration("2d")


def test_kernels_and_checkpointing_set_by_hand_give_the_network_that_would_be_planned_with_them() -> None:
    full = changed("3d.kernel=5", "3d.checkpointing=true").configuration("3d")
    assert full.topology == plan_topology(full.spacing_mm, full.patch_size, kernel=5, checkpointing=True)[0]


def test_a_network_that_was_not_planned_here_keeps_its_blocks_and_features() -> None:
    made = plan()
    full = made.configuration("3d")
    stages = full.topology.stages
    own = replace(
        full.topology,
        encoder_blocks=(1,) * stages,
        features=tuple(min(400, 32 * 2**stage) for stage in range(stages)),  # a planned one stops at 320
        kernels=((1, 3, 3), *full.topology.kernels[1:]),
    )
    edited = replace(made, configurations={**made.configurations, "3d": replace(full, topology=own)})
    once = override(edited, [parse_override("3d.checkpointing=true")]).configuration("3d")
    assert once.topology == replace(own, checkpointing=True)
    assert once.reasons["topology"] == full.reasons["topology"]
    twice = override(edited, [parse_override("3d.kernel=5")]).configuration("3d")
    assert twice.topology == replace(own, kernels=((1, 5, 5), *((5, 5, 5),) * (stages - 1)))


def test_a_kernel_without_padding_that_has_no_answer_for_the_patch_is_refused_with_a_patch_it_has_one_for() -> None:
    network = NetworkChoice(architecture="unet-2015")
    with pytest.raises(PlanError, match="is none of the sizes that the network of") as problem:
        changed("3d.kernel=5", network=network)
    remedy = str(problem.value).rpartition("--set ")[2]
    topology = changed("3d.kernel=5", remedy, network=network).configuration("3d").topology
    assert set(topology.kernels) == {(5, 5, 5)}


def test_a_patch_set_by_hand_keeps_the_architecture() -> None:
    asked = NetworkChoice(architecture="vnet", checkpointing=True)
    made = override(plan(network=asked), [parse_override("3d.patch_size=64,64,64")])
    topology = made.configuration("3d").topology
    assert (topology.architecture, topology.checkpointing) == ("vnet", True)


def test_a_kernel_has_a_middle_and_is_not_too_wide() -> None:
    for text in ("4", "9", "wide"):
        with pytest.raises(UsageError, match="kernel must be one of 3, 5, 7"):
            parse_override(f"3d.kernel={text}")

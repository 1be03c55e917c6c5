from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny import plan as tiny_plan

from nnlite.data.labels import Labels
from nnlite.errors import PlanError
from nnlite.planning.configurations import Configuration
from nnlite.planning.cost import (
    OPTIMIZER,
    costs,
    disk_gib,
    measurement,
    parameters,
    parameters_of_all_stages,
    require_within_memory,
    shallow_networks,
    slow_steps,
    step_gib,
    step_multiplications,
    step_seconds,
)
from nnlite.planning.gpu import usable_gib
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.nnunet import estimated_gib
from nnlite.planning.planner import Device, Plan
from nnlite.planning.topology import plan_topology
from nnlite.training.config import default_config


def gpu(memory_gib: float, batch_size: int = 3) -> Plan:
    made = tiny_plan()
    one = replace(made.configurations["3d"], batch_size=batch_size)
    return replace(made, device="cuda", memory_gib=memory_gib, configurations={"3d": one})


def measured(configuration: Configuration, step_s: float = 0.5, memory_gib: float = 2.0) -> Configuration:
    taken = StepMeasurement(
        device="a card",
        precision="bf16",
        patch_size=configuration.patch_size,
        batch_size=configuration.batch_size,
        memory_gib=memory_gib,
        step_s=step_s,
        torch_version="2",
    )
    return replace(configuration, measured=taken)


def test_a_cpu_s_plan_is_bounded_by_no_memory() -> None:
    made = tiny_plan()
    huge = replace(made.configurations["3d"], batch_size=10**6)
    require_within_memory(replace(made, configurations={"3d": huge}))


def test_memory_and_multiplications_grow_with_the_batch() -> None:
    one, ten = gpu(8, 1), gpu(8, 10)
    assert step_multiplications(ten, ten.configuration("3d")) == 10 * step_multiplications(one, one.configuration("3d"))
    assert step_gib(ten, ten.configuration("3d")) > step_gib(one, one.configuration("3d"))
    assert parameters(ten, ten.configuration("3d")) == parameters(one, one.configuration("3d"))


def test_a_step_that_needs_more_than_was_planned_for_is_refused_with_both_numbers() -> None:
    many = gpu(8, 10_000)
    per_sample = step_gib(many, many.configuration("3d")) / 10_000
    require_within_memory(gpu(8, int(0.95 * usable_gib(8) / per_sample)))
    with pytest.raises(PlanError, match=r"3d: patch 16 x 16 x 16 with batch \d+ needs about 8\.\d GiB, of the 8 GiB"):
        require_within_memory(gpu(8, int(8.2 / per_sample)))


def test_what_was_measured_counts_more_than_what_was_predicted() -> None:
    made = gpu(8)
    full = replace(made, configurations={"3d": measured(made.configurations["3d"], memory_gib=7.5)})
    with pytest.raises(PlanError, match=r"needs about 7\.5 GiB"):
        require_within_memory(full)


def test_nnunet_s_own_plans_may_round_their_batch_up() -> None:
    def nnunet(batch_size: int) -> Plan:
        return replace(gpu(8, batch_size), preset="nnunet")

    def estimate(batch_size: int) -> float:
        one = gpu(8).configuration("3d")
        return estimated_gib(one.topology, one.patch_size, batch_size, labels=3, planner="plain")

    fits = int(8 / estimate(1))
    require_within_memory(nnunet(int(1.2 * fits)))
    with pytest.raises(PlanError, match=r"of the 8 GiB planned for 10\.0 may be used"):
        require_within_memory(nnunet(int(1.3 * fits)))


def test_hours_follow_from_a_measured_step_and_are_unknown_without_one() -> None:
    made = gpu(8)
    assert (costs(made, 5)["3d"].step_s, costs(made, 5)["3d"].fold_h) == (None, None)
    one = replace(measured(made.configurations["3d"], step_s=0.5), epochs=100, iterations=250)
    cost = costs(replace(made, configurations={"3d": one}), folds=5)["3d"]
    assert (cost.step_s, cost.measured_gib) == (0.5, 2.0)
    # 100 x 250 steps of 0.5 s, and a fifth as many looks of a third of a step: 12500 x (1 + 1 / 15) s
    assert cost.fold_h == pytest.approx(12_500 * (1 + 1 / 15) / 3600)
    assert cost.folds_h == pytest.approx(5 * cost.fold_h)


@pytest.mark.parametrize("folds", [1, 3, 10])
def test_every_fold_is_counted_in_hours_and_in_models_on_the_disk(folds: int) -> None:
    made = gpu(8)
    timed = replace(made, configurations={"3d": measured(made.configurations["3d"])})
    cost = costs(timed, folds)["3d"]
    assert (cost.fold_h, cost.folds_h) == (costs(timed, 1)["3d"].fold_h, folds * cost.fold_h)
    assert cost.disk_gib == disk_gib(timed, timed.configuration("3d"), folds)


def test_an_edited_configuration_is_timed_by_its_multiplications() -> None:
    made = gpu(8)
    old = measured(made.configurations["3d"], step_s=0.5)
    edited = replace(old, batch_size=2 * old.batch_size)
    assert measurement(edited) is None
    low = replace(edited, name="3d-lowres", measured=None)
    both = replace(made, configurations={"3d": old, "3d-lowres": low})
    assert step_seconds(both, low) == pytest.approx(2 * 0.5)  # twice the samples
    assert step_seconds(replace(made, configurations={"3d": edited}), edited) is None


def test_the_disk_holds_cases_models_and_the_state_to_resume_from() -> None:
    made = gpu(8)
    one = made.configurations["3d"]
    cases = 3 * 20**3 * (4 + 1)  # three cases of 20 x 20 x 20 voxels: float32 image, one byte of label
    runs = 5 * 4 * parameters(made, one) * (2 + 1 + 1)  # best and final model, and weights with momentum
    assert disk_gib(made, one, 5) == (cases + runs) / 2**30


def test_planning_and_training_agree_on_the_optimiser() -> None:
    for device in ("cpu", "cuda"):
        assert default_config(torch.device(device)).optimizer == OPTIMIZER[device]


def test_a_slow_step_is_named_only_on_a_cpu() -> None:
    made = tiny_plan()
    slow = replace(made, configurations={"3d": replace(made.configurations["3d"], batch_size=100_000)})
    [remark] = slow_steps(slow)
    assert remark.startswith("3d: a step takes ")
    assert slow_steps(made) == ()
    assert slow_steps(gpu(8, 100_000)) == ()


@pytest.mark.parametrize(("device", "way"), [("cuda", "allow more memory"), ("cpu", "plan for a GPU")])
def test_a_network_of_two_resolutions_is_named_where_the_images_allow_more(device: Device, way: str) -> None:
    def edged(edge: int, image: float) -> Plan:
        topology, patch = plan_topology((1.0,) * 3, (edge,) * 3, kernel=5, base_features=4)
        small = replace(tiny_plan().configuration("3d"), topology=topology, patch_size=patch, median_shape=(image,) * 3)
        memory = 8.0 if device == "cuda" else None
        return replace(tiny_plan(), device=device, memory_gib=memory, configurations={"3d": small})

    [remark] = shallow_networks(edged(8, 32.0))  # 8 are halved once, 32 three times: to 4 at the least
    assert remark.startswith("3d: with its patch of 8 x 8 x 8 voxels the network has 2 resolutions, where images of ")
    assert "32 x 32 x 32 allow 4: it sees little around a voxel; a larger patch may fit if you take kernels" in remark
    assert way in remark
    assert shallow_networks(edged(8, 12.0)) == ()  # whose images are no larger themselves
    assert shallow_networks(edged(16, 32.0)) == ()


def test_a_cascade_counts_the_weights_of_the_previous_stage_s_channels():
    topology, _ = plan_topology((1.0, 1.0, 1.0), (40, 56, 40), base_features=8)
    labels = Labels(names=("background", "a", "b"), values=(0, 1, 2))
    plan = SimpleNamespace(image_channels=("MRI",), labels=labels, prior=None)
    alone, cascade = (SimpleNamespace(topology=topology, previous_stage=stage) for stage in (None, "3d-lowres"))
    kernel = 8 * 27  # 3x3x3 weights for each of the first stage's 8 features, per further input channel
    assert parameters(plan, cascade) - parameters(plan, alone) == 2 * kernel  # type: ignore[arg-type]


def test_a_cascade_has_the_weights_of_both_of_its_stages():
    made = tiny_plan("3d-cascade")
    first, second = (made.configuration(name) for name in ("3d-lowres", "3d-cascade"))
    assert parameters_of_all_stages(made, first) == parameters(made, first)
    assert parameters_of_all_stages(made, second) == parameters(made, first) + parameters(made, second)

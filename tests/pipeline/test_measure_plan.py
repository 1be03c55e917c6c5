from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny import plan as tiny_plan

from nnlite.data.labels import Labels
from nnlite.data.records import write_record
from nnlite.errors import PlanError
from nnlite.pipeline.measure_plan import Measure, measure_here, search, with_measurements
from nnlite.pipeline.plan_request import plan_request, read_plan_file
from nnlite.planning.configurations import Configuration
from nnlite.planning.cost import measurement, require_within_memory, step_gib
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties
from nnlite.planning.gpu import usable_gib
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.planner import Plan

MEMORY_GIB = 8
ORGAN = Labels(names=("background", "organ"), values=(0, 1))


def decide(
    corrections: Mapping[int, float], *overrides: str, shape: tuple[int, int, int] = (180, 200, 190), **options: Any
) -> Plan:
    """A dataset large enough that patch and batch follow the memory."""
    some = IntensityProperties(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
    fingerprint = Fingerprint(
        spacings_mm=((1.0, 1.0, 1.0),) * 50,
        shapes_after_crop=(shape,) * 50,
        intensities=(some,),
        median_relative_size_after_crop=1.0,
    )
    options = options or {"device": "cuda", "memory_gib": MEMORY_GIB}
    request = plan_request(overrides=overrides, **options)
    return request.decide(fingerprint, dataset="d", channels=["CT"], labels=ORGAN, corrections=corrections)


def taken(configuration: Configuration, memory_gib: float) -> StepMeasurement:
    return StepMeasurement(
        device="a card",
        precision="bf16",
        patch_size=configuration.patch_size,
        batch_size=configuration.batch_size,
        memory_gib=memory_gib,
        step_s=0.1,
        torch_version="2",
    )


def card(factor: float, capacity_gib: float = MEMORY_GIB) -> Measure:
    """A GPU on which a step takes so many times what is predicted, and nothing beyond its capacity runs."""

    def measure(plan: Plan, configuration: Configuration) -> StepMeasurement | None:
        needed = factor * step_gib(plan, configuration)
        return None if needed > capacity_gib else taken(configuration, needed)

    return measure


def peaks(plan: Plan) -> dict[str, float]:
    return {name: one.measured.memory_gib for name, one in plan.configurations.items() if one.measured is not None}


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.97, 1.0, 1.1, 1.4, 2.0])
def test_every_step_of_the_plan_was_seen_to_fit(factor: float):
    found = search(decide, card(factor))
    assert peaks(found).keys() == found.configurations.keys()
    assert all(peak <= usable_gib(MEMORY_GIB) for peak in peaks(found).values())


def test_a_step_that_needs_less_than_predicted_leaves_room_for_a_larger_one():
    first, found = decide({}), search(decide, card(0.5))
    assert sum(peaks(found).values()) > 0.5 * sum(step_gib(first, one) for one in first.configurations.values())
    assert found.configuration("3d").patch_size > first.configuration("3d").patch_size


@pytest.mark.parametrize("factor", [0.6, 0.7, 0.95])
def test_a_larger_patch_is_found_where_it_makes_a_low_resolution_superfluous(factor: float):
    flat = partial(decide, shape=(150, 400, 400))
    found, wanted = search(flat, card(factor)), flat({2: factor, 3: factor})
    assert "3d-lowres" in flat({}).configurations
    assert "3d-lowres" not in wanted.configurations
    for name in ("2d", "3d"):
        one, other = found.configuration(name), wanted.configuration(name)
        assert (one.patch_size, one.batch_size) == (other.patch_size, other.batch_size)


def test_what_is_set_by_hand_stays_while_patch_and_batch_follow_the_measurement():
    found = search(lambda corrections: decide(corrections, "3d.mirror_axes=none"), card(1.1))
    assert found.configuration("3d").mirror_axes == ()
    assert peaks(found) == peaks(search(decide, card(1.1)))


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.95, 1.1])
def test_a_plan_that_was_seen_to_fit_can_be_followed_and_read_but_not_made_larger(factor: float, tmp_path: Path):
    found = search(decide, card(factor))
    write_record(tmp_path / "plan.json", found)
    made = decide({}, "3d.mirror_axes=none", from_plan=tmp_path)
    for name, one in made.configurations.items():
        other = found.configuration(name)
        assert (one.patch_size, one.batch_size, one.measured) == (other.patch_size, other.batch_size, None)
    write_record(tmp_path / "again.json", made)
    require_within_memory(read_plan_file(tmp_path / "again.json"))  # as whoever trains by it does
    twice = 2 * made.configuration("3d").batch_size
    with pytest.raises(PlanError, match=r"^3d: patch .* of the 8 GiB planned for"):
        decide({}, f"3d.batch_size={twice}", from_plan=tmp_path / "again.json")


def test_a_plan_that_was_seen_to_fit_can_be_edited_to_smaller_batches_and_not_to_larger_ones():
    found = search(partial(decide, shape=(150, 400, 400)), card(0.7))
    slices = found.configuration("2d")

    def edited(batch_size: int) -> Plan:
        return replace(found, configurations={"2d": replace(slices, batch_size=batch_size)})

    smaller = slices.batch_size - 1
    assert step_gib(found, replace(slices, batch_size=smaller)) > usable_gib(MEMORY_GIB)  # by the plain prediction
    require_within_memory(edited(smaller))
    with pytest.raises(PlanError, match="2d: patch"):
        require_within_memory(edited(slices.batch_size + 1))


@pytest.mark.parametrize("more", [-1, 1])
def test_a_plan_that_was_seen_to_fit_can_be_edited_to_smaller_patches_and_not_to_larger_ones(more: int):
    found = search(decide, card(0.7))
    volumes = found.configuration("3d")
    z, y, x = volumes.patch_size
    edited = replace(volumes, patch_size=(z, y + more * volumes.topology.divisor[1], x))
    assert step_gib(found, edited) > usable_gib(MEMORY_GIB)  # by the plain prediction
    with pytest.raises(PlanError, match="3d: patch") if more > 0 else nullcontext():
        require_within_memory(replace(found, configurations={"3d": edited}))


def test_a_card_that_another_program_fills_leads_to_a_smaller_plan():
    found = search(decide, card(1.0, capacity_gib=4))
    assert max(peaks(found).values()) <= 4


def test_a_card_on_which_nothing_runs_is_an_error_with_a_way_out():
    with pytest.raises(PlanError, match=r"no plan for 8 GiB was seen to fit this GPU.*--no-probe"):
        search(decide, lambda plan, configuration: None)


def test_no_step_is_measured_twice():
    seen = []

    def measure(plan: Plan, configuration: Configuration) -> StepMeasurement:
        seen.append((configuration.patch_size, configuration.batch_size, configuration.previous_stage))
        return taken(configuration, step_gib(plan, configuration))

    search(decide, measure)
    assert len(seen) == len(set(seen))


def test_what_cannot_be_measured_is_told_and_the_plan_stays():
    def fails(plan: Plan, configuration: Configuration) -> None:
        raise PlanError("3d: no compiler")

    for measure, words in ((fails, "3d: no compiler"), (lambda *_: None, "3d: a training step does not fit")):
        made, [remark] = with_measurements(tiny_plan(), measure)
        assert made == tiny_plan()
        assert remark.startswith(words)


def test_a_step_is_measured_on_this_machine():
    made, remarks = with_measurements(tiny_plan(), measure_here)
    found = measurement(made.configuration("3d"))
    assert found is not None
    assert remarks == ()
    assert found.step_s > 0
    planned = tiny_plan().configuration("3d")
    assert made == replace(tiny_plan(), configurations={"3d": replace(planned, measured=found)})

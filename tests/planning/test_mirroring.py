"""Along which axes a plan mirrors, what a mirror exchanges, and how both are set by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from nnlite.data.labels import Labels
from nnlite.data.records import from_json, to_json
from nnlite.errors import PlanError, UsageError
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties
from nnlite.planning.mirroring import Exchange, exchange, left_right_axis
from nnlite.planning.override import override, parse_override
from nnlite.planning.planner import Plan, make_plan
from nnlite.planning.transfer import transfer

LUNGS = {"left lung": 1, "right lung": 2}


def fingerprint(spacing_mm: tuple[float, float, float] = (3.0, 1.0, 1.0), cube: int = 400) -> Fingerprint:
    some = IntensityProperties(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
    return Fingerprint(
        spacings_mm=(spacing_mm,) * 10,
        shapes_after_crop=((cube, cube, cube),) * 10,
        intensities=(some,),
        median_relative_size_after_crop=1.0,
    )


def plan(table: dict[str, Any], *, coarsest: int = 0, **options: Any) -> Plan:
    spacing = [1.0, 1.0, 1.0]
    spacing[coarsest] = 3.0
    labels = Labels.from_table(table, **options)
    found = fingerprint((spacing[0], spacing[1], spacing[2]))
    return make_plan(found, dataset="phantom", channels=("MR",), labels=labels, device="cuda")


@pytest.mark.parametrize("transpose", list(permutations(range(3))))
def test_left_and_right_are_x_of_the_image_wherever_the_plan_puts_it(transpose: tuple[int, int, int]):
    axis = left_right_axis(transpose, 3)
    assert axis is not None
    assert "zyx"[transpose[axis]] == "x"
    in_slices = left_right_axis(transpose, 2)
    assert (in_slices is None) == (transpose[0] == 2)
    if in_slices is not None:
        assert "zyx"[transpose[1:][in_slices]] == "x"


def test_without_sides_all_axes_are_mirrored_and_nothing_is_exchanged():
    made = plan({"organ": 1})
    for configuration in made.configurations.values():
        assert configuration.mirror_axes is None
        assert configuration.mirrored_axes == tuple(range(configuration.topology.ndim))
        assert configuration.reasons["mirror_axes"] == "all: no label is told from another by its side"
        assert exchange(made, configuration) is None


def test_pairs_are_exchanged_along_x_and_a_cascade_s_input_as_well():
    made = plan(LUNGS)
    expected = Exchange(axis=2, indices=(0, 2, 1), channels=((1, 2),))
    assert exchange(made, made.configuration("3d")) == expected
    assert exchange(made, made.configuration("3d-cascade")) == replace(expected, previous=(0, 2, 1))
    assert exchange(made, made.configuration("2d")) == replace(expected, axis=1)
    assert made.configuration("3d").mirror_axes is None
    assert made.configuration("3d").reasons["mirror_axes"].endswith("left lung and right lung change places")


def test_slices_across_x_have_nothing_to_exchange():
    made = plan(LUNGS, coarsest=2)
    assert made.transpose[0] == 2
    assert exchange(made, made.configuration("2d")) is None
    assert "slices lie across x" in made.configuration("2d").reasons["mirror_axes"]
    assert exchange(made, made.configuration("3d")) == Exchange(axis=0, indices=(0, 2, 1), channels=((1, 2),))


def test_a_side_without_its_counterpart_is_not_mirrored_left_to_right():
    made = plan({"left lung": 1})
    assert made.configuration("3d").mirrored_axes == (0, 1)
    assert made.configuration("2d").mirrored_axes == (0,)
    reason = made.configuration("3d").reasons["mirror_axes"]
    assert reason.startswith("not left to right (axis x): left lung is on one side, and without a mirror image among")
    assert reason.endswith('name the pair under "mirrored" in nnlite.json')
    assert plan({"left lung": 1, "right lung": 2}, mirrored=[]).configuration("3d").mirrored_axes == (0, 1)
    assert plan({"left atrium": 1}).configuration("3d").mirrored_axes == (0, 1, 2)


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("3d.mirror_axes=z,y", (0, 1)),
        ("3d.mirror_axes=1, 0", (0, 1)),
        ("3d.mirror_axes=none", ()),
        ("3d.mirror_axes=z,y,x", (0, 1, 2)),
        ("2d.mirror_axes=x", (1,)),
    ],
)
def test_axes_are_set_by_hand_by_name_or_number(text: str, axes: tuple[int, ...]):
    made = override(plan({"left lung": 1}), [parse_override(text)])
    configuration = made.configuration(text[:2])
    assert configuration.mirrored_axes == axes
    assert configuration.reasons["mirror_axes"] == f"set by hand: {text}"
    if text.startswith("3d"):
        assert made.configuration("3d-cascade").mirrored_axes == axes
    assert from_json(to_json(made), Plan, source="plan.json") == made


def test_an_axis_s_name_is_that_of_the_image_whatever_the_plan_makes_of_it():
    made = override(plan(LUNGS, coarsest=2), [parse_override("3d.mirror_axes=x")])
    assert made.transpose[0] == 2
    assert made.configuration("3d").mirrored_axes == (0,)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("2d.mirror_axes=z", PlanError, r"patches of 2d have the axes y, x \(0 to 1\), not z"),
        ("3d.mirror_axes=3", PlanError, r"patches of 3d have the axes z, y, x \(0 to 2\), not 3"),
        ("3d.mirror_axes=left", UsageError, "mirror_axes must be axes as z,y or 0,1, or none"),
    ],
)
def test_axes_that_do_not_exist_are_refused(text: str, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        override(plan(LUNGS), [parse_override(text)])


@pytest.mark.parametrize("axes", [[2, 1], [0, 0], [3]])
def test_a_plan_edited_by_hand_is_checked(axes: list[int]):
    content = json.loads(to_json(plan(LUNGS)))
    content["configurations"]["3d"]["mirror_axes"] = axes
    with pytest.raises(PlanError, match="mirror_axes must hold some of 0, 1, 2 once each"):
        from_json(json.dumps(content), Plan, source="plan.json", error=PlanError)


def test_a_plan_written_before_axes_could_be_set_mirrors_along_all():
    content = json.loads(to_json(plan(LUNGS)))
    del content["configurations"]["3d"]["mirror_axes"], content["labels"]["mirrored"]
    made = from_json(json.dumps(content), Plan, source="plan.json")
    assert made.configuration("3d").mirrored_axes == (0, 1, 2)
    assert exchange(made, made.configuration("3d")) is None


def test_another_dataset_s_plan_is_mirrored_as_the_labels_at_hand_want_it_unless_axes_were_set():
    options = {"dataset": "new", "channels": ("MR",), "labels": Labels.from_table({"left lung": 1})}
    taken = transfer(plan(LUNGS), fingerprint(), **options).configuration("3d")
    assert taken.mirrored_axes == (0, 1)
    assert taken.reasons["mirror_axes"].startswith("not left to right")
    by_hand = override(plan(LUNGS), [parse_override("3d.mirror_axes=z,y,x")])
    kept = transfer(by_hand, fingerprint(), **options).configuration("3d")
    assert kept.mirrored_axes == (0, 1, 2)
    assert kept.reasons["mirror_axes"] == "taken from the plan of phantom: set by hand: 3d.mirror_axes=z,y,x"

"""Folds belong together where all that their networks are made by is equal, whatever else their plans hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nnlite.data.labels import Labels
from nnlite.errors import UsageError
from nnlite.planning.decisions import decisions
from nnlite.planning.hu_channels import HuChannel
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.network import NetworkChoice
from nnlite.planning.planner import Plan
from nnlite.planning.prior import Prior
from nnlite.planning.variants import as_variant
from tests import tiny

WINDOW = HuChannel(source="MR", name="brain", kind="window", low_hu=0.0, high_hu=80.0)
OTHER_LABELS = Labels(names=("background", "ball", "heart"), values=(0, 1, 2))
OTHER_INTENSITIES = (replace(tiny.INTENSITY, mean=0.1),)
MEASURED = StepMeasurement(
    device="a card", precision="bf16", patch_size=(16,) * 3, batch_size=3, memory_gib=1, step_s=1, torch_version="2"
)


def plan(**changes: Any) -> Plan:
    """One that has configurations besides those of ``tiny``."""
    made = tiny.plan("3d-cascade")
    others = {one: tiny.plan(one).configuration(one) for one in ("2d", "3d")}
    return replace(made, configurations={**others, **made.configurations}, **changes)


def with_changed(name: str, **changes: Any) -> Plan:
    made = plan()
    return replace(made, configurations={**made.configurations, name: replace(made.configuration(name), **changes)})


@pytest.mark.parametrize(
    "changes",
    [
        {"reasons": {"planner": "in other words"}},
        {"device": "cuda", "memory_gib": 9.0},
        {"planner": "residual-L", "preset": "nnunet"},
        {"network": NetworkChoice(architecture="vnet")},  # as asked for: what is built is in the topology
        {"training_cases": 4},
        {"sized_images": False},  # older plans do not tell
        {"intensities": OTHER_INTENSITIES},  # of an MR channel, which each image normalises by its own
    ],
)
def test_how_a_plan_came_about_keeps_no_folds_apart(changes: dict[str, Any]) -> None:
    assert decisions(plan(), "3d") == decisions(plan(**changes), "3d")


@pytest.mark.parametrize(
    "changes",
    [
        {"reasons": {"patch_size": "corrected by a factor of 0.95"}},
        {"measured": MEASURED},
        {"correction": 0.9},
        {"median_shape": (21.0, 20.0, 20.0)},
        {"mirror_axes": (0, 1, 2)},  # all, as None says
        {"topology": replace(tiny.plan().configuration("3d").topology, checkpointing=True)},
    ],
)
def test_what_changes_no_network_of_a_configuration_keeps_no_folds_apart(changes: dict[str, Any]) -> None:
    assert decisions(plan(), "3d") == decisions(with_changed("3d", **changes), "3d")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": OTHER_LABELS},
        {"channels": ("T1",)},
        {"transpose": (1, 0, 2)},
        {"reference_channel": "MR"},
        {"hu_channels": (WINDOW,)},
        {"prior": Prior(use="product", atlas_shape=(8, 8, 8))},
        {"dataset": "other"},
    ],
)
def test_what_images_are_made_of_and_what_answers_mean_has_to_agree(changes: dict[str, Any]) -> None:
    assert decisions(plan(), "3d") != decisions(plan(**changes), "3d")


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing_mm": (2.0, 1.0, 1.0)},
        {"patch_size": (32, 16, 16)},
        {"batch_size": 4},
        {"normalization": ("none",)},
        {"use_nonzero_mask": (True,)},
        {"batch_dice": True},
        {"mirror_axes": (0, 1)},
        {"epochs": 3},
        {"topology": tiny.plan(base_features=8).configuration("3d").topology},
    ],
)
def test_all_else_of_a_configuration_has_to_agree_and_others_may_differ(changes: dict[str, Any]) -> None:
    other = with_changed("3d", **changes)
    assert decisions(plan(), "3d") != decisions(other, "3d")
    for name in ("2d", "3d-lowres", "3d-cascade"):
        assert decisions(plan(), name) == decisions(other, name)


def test_what_a_cascade_starts_from_has_to_agree() -> None:
    other = with_changed("3d-lowres", batch_size=4)
    assert decisions(plan(), "3d-cascade") != decisions(other, "3d-cascade")
    assert decisions(plan(), "3d-cascade") == decisions(with_changed("3d-lowres", measured=MEASURED), "3d-cascade")
    variants = [decisions(as_variant(one, "big"), "3d-cascade@big") for one in (plan(), other)]
    assert variants[0] != variants[1]


@pytest.mark.parametrize("name", ["3d", "3d-cascade"])
def test_intensities_have_to_agree_where_they_normalise_an_image(name: str) -> None:
    def ct(*names: str, **changes: Any) -> Plan:
        made = plan(**changes)
        of_ct = {one: replace(made.configuration(one), normalization=("ct",)) for one in names}
        return replace(made, configurations={**made.configurations, **of_ct})

    assert decisions(ct(name), name) != decisions(ct(name, intensities=OTHER_INTENSITIES), name)
    one, other = (decisions(ct("3d-lowres", **changes), name) for changes in ({}, {"intensities": OTHER_INTENSITIES}))
    assert (one == other) == (name == "3d")


def test_a_configuration_that_is_not_planned_has_none() -> None:
    with pytest.raises(UsageError, match="'4d' is not a configuration of phantom"):
        decisions(plan(), "4d")

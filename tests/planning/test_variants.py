"""Variants have the decisions of a plan under names of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nnlite.errors import PlanError, UsageError
from nnlite.planning.variants import as_variant, parted
from tests import tiny


@pytest.mark.parametrize("name", ["3d@", "3d@a/b", "3d@-a", "3d@a@b", "3d@ü", "3d@" + 41 * "a"])
def test_a_name_that_cannot_be_part_of_a_file_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a variant: write up to 40 letters"):
        parted(name)


def test_a_variant_names_all_configurations_and_what_they_start_from() -> None:
    plan = tiny.plan("3d-cascade")
    variant = as_variant(plan, "focal")
    assert list(variant.configurations) == ["3d-lowres@focal", "3d-cascade@focal"]
    assert variant.configuration("3d-cascade@focal").previous_stage == "3d-lowres@focal"
    assert as_variant(as_variant(variant, "other"), None) == plan


def test_the_second_stage_of_a_cascade_starts_from_the_first_of_the_same_variant() -> None:
    cascade = as_variant(tiny.plan("3d-cascade"), "focal").configuration("3d-cascade@focal")
    with pytest.raises(PlanError, match='previous_stage is "3d-lowres@focal" for'):
        replace(cascade, previous_stage="3d-lowres")


def test_a_configuration_of_no_known_kind_is_refused() -> None:
    with pytest.raises(PlanError, match="name must begin with one of 2d, 3d"):
        replace(tiny.plan().configuration("3d"), name="4d@focal")

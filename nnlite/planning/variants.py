"""Names of configurations, and of their variants: ``3d@focal`` is ``3d`` with something decided otherwise.

A variant has a plan of its own, or follows the dataset's and is trained otherwise. In its plan all configurations carry
its name, so whatever is made of them (preprocessed cases, runs, ensembles) never meets that of another variant.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from nnlite.errors import UsageError

if TYPE_CHECKING:
    from nnlite.planning.planner import Plan

ConfigurationName = Literal["2d", "3d", "3d-lowres", "3d-cascade"]
CONFIGURATIONS: tuple[ConfigurationName, ...] = ("2d", "3d", "3d-lowres", "3d-cascade")
SIGN = "@"  # no shell gives it a meaning, and it may stand in the name of a file on every system
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"  # of a variant: a plain part of a file's name


def require_variant(name: str) -> str:
    """The name of a variant as it is; ``UsageError`` unless it can be part of a file's name."""
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f'"{name}" cannot name a variant: write up to 40 letters, digits, dots, hyphens and underscores, '
            "beginning with a letter or digit"
        )
    return name


def parted(name: str) -> tuple[str, str | None]:
    """What kind of configuration a name stands for, and which variant of it; None for the plan's own.

    >>> parted("3d@focal"), parted("2d")
    (('3d', 'focal'), ('2d', None))
    """
    kind, sign, variant = name.partition(SIGN)
    return kind, require_variant(variant) if sign else None


def named(kind: str, variant: str | None) -> str:
    """The name of a variant's configuration.

    >>> named("3d", "focal"), named("3d", None)
    ('3d@focal', '3d')
    """
    return kind if variant is None else f"{kind}{SIGN}{variant}"


def as_variant(plan: Plan, variant: str | None) -> Plan:
    """The same decisions under the names of a variant; None names them as the dataset's own plan does."""

    def renamed(name: str) -> str:
        return named(parted(name)[0], variant)

    configurations = {
        renamed(name): replace(
            one, name=renamed(name), previous_stage=None if one.previous_stage is None else renamed(one.previous_stage)
        )
        for name, one in plan.configurations.items()
    }
    return replace(plan, configurations=configurations)

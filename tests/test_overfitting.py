"""The default network learns two phantoms by heart in seconds, whatever its loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from overfitting import OVERFIT, overfit
from tiny import plan

from nnlite.planning.configurations import ConfigurationName
from nnlite.planning.planner import Plan
from nnlite.planning.topology import Architecture, plan_topology
from nnlite.training.loss import BOUNDARY, TERMS

SUMS = ("focal+dice", "bce+dice", "topk+dice", "boundary+dice", "boundary+ce")


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_the_default_training_learns_two_phantoms_by_heart(name: ConfigurationName, tmp_path: Path) -> None:
    assert min(overfit(tmp_path, plan(name))) > 0.98


@pytest.mark.parametrize(
    ("architecture", "name", "edge", "features"),
    [
        *(("resenc", name, 16, 4) for name in ("2d", "3d")),
        *(("vnet", name, 16, 4) for name in ("2d", "3d")),
        *(("attention-unet", name, 16, 4) for name in ("2d", "3d")),
        ("unet++", "2d", 16, 4),
        ("unet++", "3d", 16, 8),
        ("unet-2015", "2d", 16, 8),
        ("unet-2015", "3d", 12, 16),
    ],
)
def test_other_architectures_learn_two_phantoms_by_heart(
    architecture: Architecture, name: ConfigurationName, edge: int, features: int, tmp_path: Path
) -> None:
    made = plan(name)
    ndim = made.configuration(name).topology.ndim
    topology, patch = plan_topology((1.0,) * ndim, (edge,) * ndim, architecture=architecture, base_features=features)
    changed = replace(made.configuration(name), topology=topology, patch_size=patch)
    rate = 5e-3 if architecture == "unet-2015" else OVERFIT.learning_rate  # nothing in it is normalised
    config = replace(OVERFIT, learning_rate=rate)
    assert min(overfit(tmp_path, replace(made, configurations={name: changed}), config)) > 0.98


def wide_plan() -> Plan:
    """A network of 16 features instead of 4: some losses are slow to lead a narrow one to the last voxel."""
    made = plan("2d")
    topology, _ = plan_topology((1.0, 1.0), (16, 16), base_features=16)
    return replace(made, configurations={"2d": replace(made.configuration("2d"), topology=topology)})


@pytest.mark.parametrize("loss", [*(term for term in TERMS if term != BOUNDARY), *SUMS])
def test_every_loss_teaches_two_phantoms_by_heart(loss: str, tmp_path: Path) -> None:
    config = replace(OVERFIT, loss=loss, learning_rate=5e-3, iterations=25)
    if loss == "generalised-dice":  # dominated by the core, the smallest structure
        config = replace(config, learning_rate=1e-2, iterations=90)
    assert min(overfit(tmp_path, wide_plan(), config)) > 0.98

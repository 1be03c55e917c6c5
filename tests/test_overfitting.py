"""The default network learns two phantoms by heart in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from overfitting import overfit
from tiny import plan

from nnlite.planning.configurations import ConfigurationName


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_the_default_training_learns_two_phantoms_by_heart(name: ConfigurationName, tmp_path: Path) -> None:
    assert min(overfit(tmp_path, plan(name))) > 0.98

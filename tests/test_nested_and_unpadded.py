"""U-Net++ and the U-Net of 2015 from a dataset to its masks: planned, trained for a moment, and predicted on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import read_image
from nnlite.data.records import read_record
from nnlite.errors import UsageError
from nnlite.planning.network import NetworkOptions
from nnlite.planning.planner import Plan
from nnlite.planning.topology import Architecture
from nnlite.workspace import Workspace


@pytest.fixture(scope="module", params=["unet++", "unet-2015"])
def trained(request: pytest.FixtureRequest, balls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An architecture, and a workspace in which fold0 of 2d and of 3d of ``balls`` is trained with it."""
    architecture: Architecture = request.param
    work = tmp_path_factory.mktemp("architecture")
    pipeline.plan(balls, work=work, device="cpu", probe=False, network=NetworkOptions(architecture=architecture))
    for name in ("2d", "3d"):
        pipeline.train(balls, name, ("fold0",), work=work, device="cpu", epochs=1, iterations=3)
    return architecture, work


def test_the_plan_is_of_the_architecture_and_says_so(trained: tuple[str, Path]) -> None:
    architecture, work = trained
    plan = read_record(Workspace(root=work, dataset="balls").plan, Plan)
    assert {one.topology.architecture for one in plan.configurations.values()} == {architecture}
    assert plan.reasons["architecture"].startswith(f"{architecture}: asked for")
    for one in plan.configurations.values():
        assert ("without padding it sees" in one.reasons["topology"]) == (architecture == "unet-2015")


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_masks_have_the_grid_of_their_images(trained: tuple[str, Path], balls: Path, name: str, tmp_path: Path) -> None:
    _, work = trained
    image = balls / "images" / "ball_0.nii.gz"
    (mask,) = pipeline.predict(balls, [image], tmp_path, work=work, configuration=name, device="cpu").masks
    assert read_image(mask).geometry == read_image(image).geometry
    assert set(np.unique(read_image(mask).array)) <= {0, 1, 7}


def test_a_depth_prunes_a_u_net_plus_plus_alone(trained: tuple[str, Path], balls: Path, tmp_path: Path) -> None:
    architecture, work = trained
    image = balls / "images" / "ball_0.nii.gz"

    def predict(depth: int | None) -> np.ndarray:
        folder = tmp_path / f"{depth}"
        pipeline.predict(
            balls, [image], folder, work=work, configuration="3d", device="cpu", depth=depth, probabilities=True
        )
        return read_image(folder / "ball_0.probabilities.nii").array

    plan = json.loads(Workspace(root=work, dataset="balls").plan.read_text())
    deepest = len(plan["configurations"]["3d"]["topology"]["strides"]) - 1
    if architecture != "unet++":
        with pytest.raises(UsageError, match="--depth 1 prunes a unet\\+\\+, and 3d is a unet-2015; leave --depth out"):
            predict(1)
        return
    whole = predict(None)
    assert np.array_equal(predict(deepest), whole)
    assert not np.array_equal(predict(1), whole)
    with pytest.raises(UsageError, match=rf"--depth 0 is none of the depths of 3d; give one from 1 to {deepest}"):
        predict(0)

"""V-Net, Attention U-Net and checkpointed stages from a dataset to its masks: planned, trained briefly, predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import read_image
from nnlite.data.records import read_record
from nnlite.planning.network import NetworkOptions
from nnlite.planning.planner import Plan
from nnlite.workspace import Workspace

NETWORKS = {
    "vnet": NetworkOptions(architecture="vnet", kernel=5),
    "attention-unet": NetworkOptions(architecture="attention-unet", checkpointing=True),
    "resenc": NetworkOptions(architecture="resenc", checkpointing=True),
}


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request: pytest.FixtureRequest, balls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An architecture, and a workspace in which fold0 of 2d and of 3d of ``balls`` is trained with it."""
    work = tmp_path_factory.mktemp("architecture")
    pipeline.plan(balls, work=work, device="cpu", probe=False, network=NETWORKS[request.param])
    for name in ("2d", "3d"):
        pipeline.train(balls, name, ("fold0",), work=work, device="cpu", epochs=1, iterations=2)
    return request.param, work


def test_the_plan_holds_what_was_asked_for_with_its_reason(trained: tuple[str, Path]) -> None:
    architecture, work = trained
    plan, asked = read_record(Workspace(root=work, dataset="balls").plan, Plan), NETWORKS[architecture]
    for one in plan.configurations.values():
        assert one.topology.architecture == architecture
        assert one.topology.checkpointing == asked.checkpointing
        assert max(size for kernel in one.topology.kernels for size in kernel) == (asked.kernel or 3)
    assert plan.reasons["architecture"].startswith(f"{architecture}: asked for; a ")
    assert ("checkpointing" in plan.reasons) == asked.checkpointing


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_masks_have_the_grid_and_the_labels_of_the_dataset(
    trained: tuple[str, Path], balls: Path, name: str, tmp_path: Path
) -> None:
    _, work = trained
    image = balls / "images" / "ball_0.nii.gz"
    (mask,) = pipeline.predict(balls, [image], tmp_path, work=work, configuration=name, device="cpu").masks
    assert read_image(mask).geometry == read_image(image).geometry
    assert set(np.unique(read_image(mask).array)) <= {0, 1, 7}

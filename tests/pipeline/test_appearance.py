"""What training images look like is written by plan, and made up for where an earlier nnlite planned."""

from __future__ import annotations

import shutil
from pathlib import Path

from nnlite.data.dataset import find_dataset
from nnlite.pipeline.appearance import read_appearance, require_appearance
from nnlite.workspace import Workspace


def test_a_missing_appearance_is_made_as_plan_makes_it(balls: Path, trained_work: Path, tmp_path: Path):
    workspace = Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")
    planned = read_appearance(workspace)
    assert planned is not None
    assert [image.case for image in planned.images] == [f"ball_{number}" for number in range(5)]
    assert {image.spacing_mm for image in planned.images} == {(2.0, 1.5, 1.5)}
    workspace.appearance.unlink()
    assert read_appearance(workspace) is None
    reported: list[int] = []
    require_appearance(find_dataset(balls), workspace, progress=lambda what, done, total: reported.append(done))
    assert read_appearance(workspace) == planned
    assert reported == [1, 2, 3, 4, 5]
    require_appearance(find_dataset(balls), workspace, progress=lambda what, done, total: reported.append(done))
    assert len(reported) == 5  # what is there stays

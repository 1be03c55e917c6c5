"""Rules are chosen on masks as they lie on disk, and what they do together is measured there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnlite.data.dataset import find_dataset
from nnlite.data.image import Geometry, read_label, write_image, write_mask
from nnlite.data.labels import Labels
from nnlite.errors import WorkspaceError
from nnlite.pipeline.choose_postprocessing import choose_postprocessing

LABELS = Labels(names=("background", "ball", "core"), values=(0, 1, 7))


@pytest.fixture
def masks(balls: Path, tmp_path: Path) -> Path:
    """The truth with a speck of the ball in a corner, and a hole of one voxel in the core."""
    for number in range(5):
        truth = read_label(balls / "labels" / f"ball_{number}.nii.gz")
        mask = truth.array[0].copy()
        mask[0, 0, 0] = 1
        inside = np.argwhere(mask == 7).mean(axis=0).round().astype(int)
        mask[tuple(inside)] = 0
        write_mask(tmp_path / f"ball_{number}.nii.gz", mask, truth)
    return tmp_path


def test_specks_are_dropped_holes_filled_and_the_truth_is_met(balls: Path, masks: Path):
    reported = []
    chosen = choose_postprocessing(
        find_dataset(balls).cases,
        lambda case: masks,
        LABELS,
        ("ball", "core"),
        progress=lambda what, done, total: reported.append((what, done, total)),
    )
    assert [rule.in_words() for rule in chosen.postprocessing.rules] == [
        "all foreground: only the largest component",
        "core: holes filled",
    ]
    assert chosen.mean_dice == 1.0
    assert chosen.trials[0].mean_dice_before < chosen.trials[0].mean_dice_after < 1.0
    assert reported[-1] == ("measure the rules", 5, 5)


def test_masks_that_are_perfect_get_no_rules(balls: Path):
    chosen = choose_postprocessing(find_dataset(balls).cases, lambda case: balls / "labels", LABELS, ("ball", "core"))
    assert chosen.postprocessing.rules == ()
    assert chosen.mean_dice == 1.0


def test_a_mask_that_is_gone_or_of_another_grid_is_named(balls: Path, masks: Path):
    cases = find_dataset(balls).cases
    first = masks / "ball_0.nii.gz"
    small = read_label(balls / "labels" / "ball_0.nii.gz")
    first.unlink()
    with pytest.raises(WorkspaceError, match=r"ball_0\.nii\.gz is gone; delete .*scores\.json and run nnlite train"):
        choose_postprocessing(cases, lambda case: masks, LABELS, ("ball",))
    geometry = Geometry(shape=(2, 2, 2), spacing_mm=small.geometry.spacing_mm)
    write_image(first, np.zeros((1, 2, 2, 2), dtype=np.uint8), geometry)
    with pytest.raises(WorkspaceError, match=r"prediction shape \(2, 2, 2\) but truth shape \(16, 20, 18\)"):
        choose_postprocessing(cases, lambda case: masks, LABELS, ("ball",))

"""A page of pictures is drawn of a planned dataset; what an augmentation cannot say of it is refused before."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from nnlite.data.phantom import write_phantom
from nnlite.errors import UsageError
from nnlite.evaluation.contact_sheet import TILE_PX
from nnlite.evaluation.overlay import GAP_PX
from nnlite.pipeline import plan, show_augmentation


def test_a_page_shows_a_patch_of_the_dataset(tmp_path: Path):
    ids = write_phantom(tmp_path / "phantom", cases=3, seed=1)
    work = tmp_path / "work"
    plan(tmp_path / "phantom", work=work, device="cpu", probe=False)
    shown = show_augmentation(tmp_path / "phantom", "2d", tmp_path / "page.png", augmentation="ct", seed=1, work=work)
    assert shown.case_id == ids[1]
    assert shown.pictures == 1 + 3 + 2 * 5 + 6  # as read; rotation, scaling, elastic; five steps twice; samples
    with Image.open(shown.path) as page:
        assert page.width == 6 * (TILE_PX + GAP_PX) + GAP_PX
    with pytest.raises(UsageError, match="the augmentation mr is for MR"):
        show_augmentation(tmp_path / "phantom", "2d", tmp_path / "mr.png", augmentation="mr", work=work)
    assert not (tmp_path / "mr.png").exists()


def test_a_page_shows_what_a_network_with_an_atlas_is_trained_on(tmp_path: Path):
    write_phantom(tmp_path / "phantom", cases=3, seed=1)
    work = tmp_path / "work"
    plan(tmp_path / "phantom", work=work, device="cpu", probe=False, prior="channel")
    shown = show_augmentation(tmp_path / "phantom", "2d", tmp_path / "page.png", augmentation="none", work=work)
    assert shown.pictures == 1 + 6  # as read; samples

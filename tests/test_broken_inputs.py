"""What people really hand over: each broken file and dataset gives one message with a remedy, or a correct result.

Every one runs through the real command line; the files are made in ``broken_files.py``.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_datasets import BROKEN as BROKEN_DATASETS
from broken_files import BROKEN
from fake_pipeline import nn

from nnlite.data.image import read_image, read_label, write_image

REFUSED = 2
LABELS = '{"labels": {"background": 0, "ball": 1, "core": 7}}'


def said(*arguments: Any, status: int = 0) -> str:
    """What a command said, on one line; anything but the one expected status fails."""
    result = nn(*map(str, arguments))
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    assert result.stderr.count("error: ") == (status == REFUSED)
    return " ".join(result.stderr.split())


def left_over(folder: Path) -> list[str]:
    """Half-written files, and whatever else lies in a folder that should be empty."""
    return sorted(str(path) for path in folder.rglob("*")) if folder.exists() else []


@pytest.fixture
def folder(balls: Path, tmp_path: Path) -> Path:
    """A dataset of one good case, to which a maker adds an odd one."""
    root = tmp_path / "data"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
        shutil.copy(balls / kind / "ball_0.nii.gz", root / kind / "good.nii.gz")
    (root / "cases.csv").write_text("id,MR,label\ngood,images/good.nii.gz,labels/good.nii.gz\n")
    (root / "nnlite.json").write_text(LABELS)
    return root


def add_to_list(root: Path, image: Path, label: Path) -> None:
    with (root / "cases.csv").open("a", encoding="utf-8") as table:
        table.write(f"odd,{image.relative_to(root)},{label.relative_to(root)}\n")


@pytest.mark.parametrize("name", BROKEN)
def test_check_tells_what_is_wrong_with_an_image(name: str, folder: Path, tmp_path: Path):
    broken = BROKEN[name]
    image = broken.make(folder / "images")
    label = folder / "labels" / "odd.nii.gz"
    if not broken.refused:  # the label of the same patient, saved by the same program
        like = read_image(image)
        array = np.zeros((1, *like.geometry.shape), np.uint8)
        array[:, 5:9, 5:9, 5:9] = 1
        write_image(label, like.stored.as_stored(array), like.stored.geometry)
    else:
        shutil.copy(folder / "labels" / "good.nii.gz", label)
    add_to_list(folder, image, label)
    status = REFUSED if broken.refused else 0
    message = said("check", folder, "--work", tmp_path / "work", status=status)
    assert broken.says in message
    assert left_over(tmp_path / "work") == []
    if broken.refused:
        assert re.search(rf"- odd .*images/{re.escape(image.name)}", message)  # the case and its file
        assert message.count("- odd") == 1
        planned = said("plan", folder, "--device", "cpu", "--no-probe", "--work", tmp_path / "work", status=REFUSED)
        assert broken.says in planned
        assert left_over(tmp_path / "work") == []


@pytest.mark.parametrize("name", [name for name, broken in BROKEN.items() if broken.predicted])
def test_predict_tells_what_is_wrong_with_an_image(
    name: str, folder: Path, trained_work: Path, balls: Path, tmp_path: Path
):
    broken = BROKEN[name]
    image = broken.make(folder / "images")
    out = tmp_path / "out"
    options = ("-o", out, "--folds", "fold0", "--no-mirroring", "--device", "cpu", "--work", trained_work)
    message = said("predict", balls, image, *options, status=REFUSED if broken.refused else 0)
    assert broken.says in message
    if broken.refused:
        assert image.name in message
        assert left_over(out) == []
    else:
        [mask] = [path for path in out.iterdir() if path.suffix != ".json"]
        assert read_label(mask).geometry.differences(read_image(image).geometry) == []
        assert not [path for path in out.iterdir() if ".writing-" in path.name]


@pytest.fixture
def two_cases(balls: Path, tmp_path: Path) -> Path:
    """A good dataset of the cases a and b, to be spoilt."""
    root = tmp_path / "data"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
        for number, name in enumerate("ab"):
            shutil.copy(balls / kind / f"ball_{number}.nii.gz", root / kind / f"{name}.nii.gz")
    (root / "nnlite.json").write_text(LABELS)
    return root


@pytest.mark.parametrize("name", BROKEN_DATASETS)
def test_check_tells_what_is_wrong_with_a_dataset(name: str, two_cases: Path, tmp_path: Path):
    broken, work = BROKEN_DATASETS[name], tmp_path / "work"
    broken.make(two_cases)
    message = said("check", two_cases, "--work", work, status=REFUSED if broken.refused else 0)
    assert broken.says in message
    assert left_over(work) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    if broken.refused:
        planned = said("plan", two_cases, "--device", "cpu", "--no-probe", "--work", work, status=REFUSED)
        assert broken.says in planned
        assert left_over(work) == []

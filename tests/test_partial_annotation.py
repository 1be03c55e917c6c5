"""Cases in which only some structures are drawn teach nothing false about the others, from the plan to the report."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import Geometry, read_label, write_image
from nnlite.workspace import Workspace

GEOMETRY = Geometry(shape=(16, 20, 20), spacing_mm=(1.0, 1.0, 1.0))
LIVER, SPLEEN = 1, 2
TABLE = {"background": 0, "liver": LIVER, "spleen": SPLEEN}


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume with a grey ball and a bright one somewhere, and its label map."""
    rng = np.random.default_rng(seed)
    grid = np.moveaxis(np.indices(GEOMETRY.shape), 0, -1)
    liver = np.linalg.norm(grid - (rng.uniform(6, 9), rng.uniform(6, 13), 5), axis=-1) < 4.5
    spleen = np.linalg.norm(grid - (rng.uniform(6, 9), rng.uniform(6, 13), 14), axis=-1) < 4.5
    image = 60.0 * liver + 140.0 * spleen + rng.normal(0, 10, GEOMETRY.shape)
    return image.astype(np.float32), (LIVER * liver + SPLEEN * spleen).astype(np.uint8)


def write_cases(folder: Path, drawn: dict[int, tuple[str, ...]]) -> Path:
    """Cases of these seeds, in which these organs are drawn; an ``nnlite.json`` says so."""
    for seed, names in drawn.items():
        image, label = draw(seed)
        label = np.where(np.isin(label, [TABLE[name] for name in names]), label, 0).astype(np.uint8)
        write_image(folder / "images" / f"case_{seed}.nii.gz", image[None], GEOMETRY)
        write_image(folder / "labels" / f"case_{seed}.nii.gz", label[None], GEOMETRY)
    annotated = {f"case_{seed}": names for seed, names in drawn.items()}
    (folder / "nnlite.json").write_text(json.dumps({"channels": ["MR"], "labels": TABLE, "annotated": annotated}))
    return folder


def found(dataset: Path, new: Path, work: Path) -> np.ndarray:
    """Dice of liver and spleen on new images after a short training on all cases of a dataset."""
    options = {"work": work, "device": "cpu"}
    pipeline.plan(dataset, probe=False, **options)
    pipeline.train(dataset, "3d", ("all",), epochs=2, iterations=60, **options)
    images = sorted((new / "images").iterdir())
    pipeline.predict(dataset, images, work / "masks", mirroring=False, **options)
    summary = pipeline.evaluate(new / "labels", work / "masks", metrics=("overlap",)).summary()
    return np.array([summary.labels[name].dice.mean for name in ("liver", "spleen")])


@pytest.mark.slow
def test_an_organ_is_found_although_most_cases_do_not_show_it_drawn(tmp_path: Path):
    rarely = {seed: ("liver", "spleen") if seed % 6 == 0 else ("liver",) for seed in range(12)}
    partly = write_cases(tmp_path / "organs", rarely)
    new = write_cases(tmp_path / "new", dict.fromkeys(range(100, 103), ("liver", "spleen")))
    misled = Path(shutil.copytree(partly, tmp_path / "misled"))
    (misled / "nnlite.json").write_text(json.dumps({"channels": ["MR"], "labels": TABLE}))
    told, not_told = found(partly, new, tmp_path / "told"), found(misled, new, tmp_path / "not_told")
    assert (told > 0.8).all()
    assert not_told[1] < told[1] - 0.2  # what was not drawn was learned as background


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Six cases: the liver is drawn in three, the spleen in the three others."""
    return write_cases(tmp_path / "organs", {seed: ("liver" if seed % 2 else "spleen",) for seed in range(6)})


def test_scores_of_what_was_not_drawn_are_absent_all_the_way_to_the_report(halves: Path, tmp_path: Path):
    work = tmp_path / "work"
    one, other = ([f"case_{number}" for number in numbers] for numbers in (range(3), range(3, 6)))
    folds = [{"train": one, "val": other}, {"train": other, "val": one}]
    (halves / "splits_final.json").write_text(json.dumps(folds))
    pipeline.plan(halves, work=work, device="cpu", probe=False)
    pipeline.train(halves, "3d", ("folds",), work=work, device="cpu", epochs=1, iterations=20)
    workspace = Workspace(root=work, dataset="organs")
    rows = []
    for fold in range(2):
        with workspace.run("3d", f"fold{fold}").scores.open() as file:
            rows += list(csv.DictReader(file))
    expected = {(f"case_{number}", "liver" if number % 2 else "spleen") for number in range(6)}
    assert {(row["case"], row["label"]) for row in rows} == expected
    selection = pipeline.select(halves, work=work, device="cpu").selection
    assert selection.labels == ("liver", "spleen")
    assert {trial.rule.label for trial in selection.trials} == {None, "liver", "spleen"}
    assert pipeline.report(halves, work=work).path.exists()


def test_a_case_whose_list_changes_is_made_again(halves: Path, tmp_path: Path):
    data, work = halves, tmp_path / "work"
    pipeline.plan(data, work=work, device="cpu", probe=False)
    folder = pipeline.preprocess(data, ("3d",), work=work)["3d"]
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    said = json.loads((data / "nnlite.json").read_text())
    said["annotated"]["case_1"] = ["liver", "spleen"]  # somebody looked, and there is no spleen
    (data / "nnlite.json").write_text(json.dumps(said))
    pipeline.preprocess(data, ("3d",), work=work)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert {name for name in before if before[name] != after[name]} == {"case_1.safetensors"}
    assert read_label(data / "labels" / "case_1.nii.gz").array.max() == LIVER

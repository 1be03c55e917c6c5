"""The four ways to label a dataset, trained alike: plain labels, regions, an ignore label, and both on sparse labels.

    python benchmarks/label_modes.py --data ../shared/data/hippocampus --work DIR [--minutes 10]

The datasets are derived from hippocampus as in nnU-Net's integration tests: posterior as ignore; the regions whole
hippocampus and anterior; and both regions with 3 % of the slices labelled along each axis (at least one), the others
ignored. Each is planned for a CPU, fold0 of 3d is trained for the same time, and its held-out cases are scored against
dense labels: those of the mode, before slices were taken away. Writes benchmarks/results/label-modes-cpu.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnlite import pipeline
from nnlite.data.image import read_label, write_mask

KEPT_SLICES = 0.03
RESULT = Path(__file__).resolve().parent / "results" / "label-modes-cpu.json"
UNLABELLED = 3  # a value that hippocampus does not use


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A label table, and what becomes of the label map of a case in training (None: it stays as it is)."""

    labels: dict[str, Any]
    thin_out: Callable[[np.ndarray, str], np.ndarray] | None = None


def some_slices(label: np.ndarray, case_id: str) -> np.ndarray:
    """The label map (z, y, x) with a few labelled slices along each axis."""
    rng = np.random.default_rng(zlib.crc32(case_id.encode()))
    thin = np.full_like(label, UNLABELLED)
    for axis, length in enumerate(label.shape):
        kept = rng.choice(length, max(1, round(KEPT_SLICES * length)), replace=False)
        where = tuple(kept if axis == other else slice(None) for other in range(3))
        thin[where] = label[where]
    return thin


REGIONS = {"background": 0, "hippocampus": [1, 2], "anterior": 1}
MODES = {
    "plain": Mode(labels={"background": 0, "anterior": 1, "posterior": 2}),
    "regions": Mode(labels=REGIONS),
    "ignore": Mode(labels={"background": 0, "anterior": 1, "ignore": 2}),
    "regions + ignore": Mode(labels=REGIONS | {"ignore": UNLABELLED}, thin_out=some_slices),
}


def main() -> None:
    """Train every mode and print a table of the Dice of each structure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="hippocampus")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = []
    for name, mode in MODES.items():
        rows.append({"mode": name, "minutes": options.minutes, **train(name, mode, options)})
        print(rows[-1], flush=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n")
    print("| mode | epochs | labelled voxels | anterior | posterior | hippocampus |\n|---|---|---|---|---|---|")
    for row in rows:
        dice = [row["dice"].get(label) for label in ("anterior", "posterior", "hippocampus")]
        words = " | ".join("-" if one is None else f"{one:.4f}" for one in dice)
        print(f"| {row['mode']} | {row['epochs']} | {row['labelled_share']:.1%} | {words} |")


def train(name: str, mode: Mode, options: argparse.Namespace) -> dict[str, Any]:
    """Derive the dataset, train its first fold and score the held-out masks against dense labels."""
    dataset, dense = (options.work / folder / name.replace(" + ", "_") for folder in ("data", "dense"))
    labelled = derive(options.data, dataset, mode)
    workspace = options.work / "work"
    pipeline.plan(dataset, work=workspace, device="cpu")
    pipeline.train(dataset, "3d", ["fold0"], work=workspace, time_budget_s=60 * options.minutes, device="cpu")
    run = workspace / dataset.name / "runs" / "3d" / "fold0"
    described(dense, mode)
    for mask in (run / "validation").iterdir():
        (dense / mask.name).symlink_to((options.data / "labelsTr" / mask.name).resolve())
    scores = pipeline.evaluate(dense, run / "validation", metrics=("overlap",))
    dice = {label: summary.dice.mean for label, summary in scores.summary().labels.items()}
    epochs = len((run / "log.jsonl").read_text().splitlines())
    return {"epochs": epochs, "labelled_share": labelled, "held_out": len(scores.cases), "dice": dice}


def described(folder: Path, mode: Mode) -> None:
    """An empty folder with the label table of the mode."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "nnlite.json").write_text(json.dumps({"labels": mode.labels}))


def derive(data: Path, dataset: Path, mode: Mode) -> float:
    """Link the images, write the labels of the mode; returns the share of voxels that have a label."""
    described(dataset, mode)
    (dataset / "images").symlink_to((data / "imagesTr").resolve())
    (dataset / "labels").mkdir()
    voxels = labelled = 0
    for path in sorted((data / "labelsTr").glob("*.nii.gz")):
        label = read_label(path)
        values = label.array[0]
        thin = mode.thin_out(values, path.name) if mode.thin_out else values
        write_mask(dataset / "labels" / path.name, thin, like=label)
        voxels += thin.size
        labelled += int(np.count_nonzero(thin != mode.labels.get("ignore", -1)))
    return labelled / voxels


if __name__ == "__main__":
    main()

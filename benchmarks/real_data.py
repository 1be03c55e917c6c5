"""The whole main job on the real datasets, as a user types it: every command, its time, and the scores it ends with.

    python benchmarks/real_data.py hippocampus [membrane cells sarcoma] [--data ../shared/data] [--work DIR]

Each dataset goes through check, plan --device cpu, preprocess, train fold0, predict (the fold's held-out images, raw)
and evaluate. One JSON file per dataset is written to benchmarks/results/. Run it on an otherwise idle machine: the
trainings are fitted to a time budget, so whatever else runs costs accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
IMAGE_FOLDERS = ("imagesTr", "images")
LABEL_FOLDERS = ("labelsTr", "labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is trained on a dataset, for how long, and the Dice that it should reach (None: it should run through)."""

    configuration: str
    time_budget: str
    needed_dice: float | None
    description: dict[str, Any] | None = None


RECIPES = {
    "hippocampus": Recipe(configuration="3d", time_budget="15m", needed_dice=0.87),
    "membrane": Recipe(
        configuration="2d",
        time_budget="10m",
        needed_dice=0.90,
        # in the published labels 255 is the inside of cells; the membranes are what is left, 0
        description={"labels": {"background": 0, "cell interior": 255}},
    ),
    "cells": Recipe(configuration="2d", time_budget="10m", needed_dice=0.80),
    "sarcoma": Recipe(configuration="3d", time_budget="5m", needed_dice=None),
}


def main() -> None:
    """Run the recipes of the datasets named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("nnlite_work"))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.datasets:
        result = run(name, RECIPES[name], arguments.data, arguments.work)
        path = arguments.out / f"real-data-{name}.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(f"{name}: mean Dice {result['validation']['foreground']['dice']:.4f} -> {path}")


def run(name: str, recipe: Recipe, data: Path, work: Path) -> dict[str, Any]:
    """Take one dataset through all commands in a workspace of its own; returns what a results file holds."""
    dataset, folder = data / name, work / name
    shutil.rmtree(folder, ignore_errors=True)
    if recipe.description is not None:
        folder.mkdir(parents=True)
        (folder / "nnlite.json").write_text(json.dumps(recipe.description))
    train = ["train", str(dataset), recipe.configuration, "fold0", "--time-budget", recipe.time_budget]
    commands = [
        _timed(["check", str(dataset)], work),
        _timed(["plan", str(dataset), "--device", "cpu"], work),
        _timed(["preprocess", str(dataset)], work),
        _timed([*train, "--device", "cpu"], work),
    ]
    fold = folder / "runs" / recipe.configuration / "fold0"
    images, truth = _held_out(dataset, folder, work / f"{name}_held_out")
    masks = work / f"{name}_masks"
    shutil.rmtree(masks, ignore_errors=True)
    predict = ["predict", str(dataset), *map(str, images), "-o", str(masks), "--device", "cpu"]
    commands.append(_timed(predict, work))
    commands.append(_timed(["evaluate", str(truth), str(masks), "-o", str(masks / "scores")], None))
    return {
        "date": date.today().isoformat(),
        "commit": _output(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]),
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in ("nnlite", "torch", "numpy")},
        "recipe": {"configuration": recipe.configuration, "time_budget": recipe.time_budget, "seed": 0, "fold": 0},
        "needed_dice": recipe.needed_dice,
        "plan": _plan(folder, recipe.configuration),
        "commands": [{"command": _shown(command, data, work), "seconds": seconds} for command, seconds in commands],
        "epochs": len((fold / "log.jsonl").read_text().splitlines()),
        "validation": json.loads((fold / "scores.json").read_text()),
        "predicted_raw": json.loads((masks / "scores" / "scores.json").read_text())["foreground"],
    }


def _timed(arguments: list[str], work: Path | None) -> tuple[list[str], float]:
    command = [str(Path(sys.executable).parent / "nnlite"), *arguments]
    if work is not None:
        command += ["--work", str(work)]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return command, round(time.perf_counter() - started, 2)


def _held_out(dataset: Path, folder: Path, target: Path) -> tuple[list[Path], Path]:
    """Raw images of the first fold's held-out cases, and a folder with links to their labels alone."""
    held_out = json.loads((folder / "splits.json").read_text())["folds"][0]["validation"]
    images = next(dataset / name for name in IMAGE_FOLDERS if (dataset / name).is_dir())
    labels = next(dataset / name for name in LABEL_FOLDERS if (dataset / name).is_dir())
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for label in labels.iterdir():
        if label.name.split(".")[0] in held_out:
            (target / label.name).symlink_to(label.resolve())
    description = folder / "nnlite.json"
    if description.exists():
        shutil.copy(description, target)
    wanted = {*held_out, *(f"{case}_0000" for case in held_out)}
    return sorted(path for path in images.iterdir() if path.name.split(".")[0] in wanted), target


def _plan(folder: Path, configuration: str) -> dict[str, Any]:
    planned = json.loads((folder / "plan.json").read_text())["configurations"][configuration]
    features = planned["topology"]["features"]
    return {key: planned[key] for key in ("spacing_mm", "patch_size", "batch_size")} | {"features": features}


def _shown(command: list[str], data: Path, work: Path) -> str:
    """A command as it is worth reading: relative paths, and one image for many."""
    words = [word.replace(f"{data}/", "").replace(str(work), "WORK") for word in command[1:]]
    images = [word for word in words if Path(word).parent.name in IMAGE_FOLDERS]
    words = [word for word in words if word not in images[1:]]
    if len(images) > 1:
        words[words.index(images[0])] = f"{images[0]} .. ({len(images)} images)"
    return " ".join(["nnlite", *words])


def _machine() -> str:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next(line.split(":")[1].strip() for line in cpuinfo.open() if line.startswith("model name"))
    return f"{os.cpu_count()} cores of {model}"


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()

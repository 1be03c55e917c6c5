"""From five folds to a decision, as a user types it: the scores of every fold, the selection, and the report's size.

    python benchmarks/cross_validation.py ../shared/data/hippocampus --work DIR --budgets 3d=8m 2d=3m

Runs plan --device cpu, train CONFIG folds with a time budget per fold, select and report; what DIR holds already is not
done again. Writes benchmarks/results/cross-validation-DATASET.json and prints its tables. The trainings follow the
clock, so whatever else runs on their cores costs accuracy: bind this to cores of its own (taskset -c 0 on Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EVIDENCE = ("members", "mean_dice", "mean_dice_interval", "labels", "difference", "difference_interval", "wilcoxon_p")


def main() -> None:
    """Run what is missing and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--budgets", nargs="+", default=["3d=8m", "2d=3m"], help="CONFIG=TIME per fold")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args()
    budgets = dict(budget.split("=") for budget in options.budgets)
    name, folder = options.dataset.name, options.work / options.dataset.name
    if not (folder / "plan.json").exists():
        nnlite("plan", options.dataset, "--device", "cpu", "--work", options.work)
    for configuration, budget in budgets.items():
        nnlite("train", options.dataset, configuration, "folds", "--time-budget", budget, "--work", options.work)
    nnlite("select", options.dataset, "--work", options.work)
    nnlite("report", options.dataset, "--work", options.work)
    found = collect(folder, budgets)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"cross-validation-{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    show(found)


def nnlite(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "nnlite", *map(str, arguments)], check=True)


def collect(folder: Path, budgets: dict[str, str]) -> dict[str, Any]:
    """What the workspace of a dataset holds of the folds, the selection and the report."""
    selection = read(folder / "selection.json")
    folds = []
    for configuration, budget in budgets.items():
        for run in sorted((folder / "runs" / configuration).iterdir()):
            scores = read(run / "scores.json")
            labels = {label: one["dice"]["mean"] for label, one in scores["labels"].items()}
            epochs = len((run / "log.jsonl").read_text().splitlines())
            one = {"configuration": configuration, "fold": run.name, "time_budget": budget, "epochs": epochs}
            folds.append(one | {"mean_dice": scores["foreground"]["dice"], "labels": labels})
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {package: version(package) for package in ("nnlite", "torch", "numpy")},
        "cases": selection["cases"],
        "folds": folds,
        "candidates": [{key: one[key] for key in EVIDENCE} for one in selection["candidates"]],
        "selected": selection["members"],
        "postprocessing": selection["postprocessing"]["rules"],
        "reliability": selection["reliability"],
        "report_mb": (folder / "report.html").stat().st_size / 1e6,
    }


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def show(found: dict[str, Any]) -> None:
    """Print the tables of the results page."""
    print("| configuration | time per fold | epochs | mean Dice of each fold |\n|---|---|---|---|")
    for configuration in dict.fromkeys(one["configuration"] for one in found["folds"]):
        rows = [one for one in found["folds"] if one["configuration"] == configuration]
        epochs = [one["epochs"] for one in rows]
        dice = ", ".join(f"{one['mean_dice']:.4f}" for one in rows)
        print(f"| {configuration} | {rows[0]['time_budget']} | {min(epochs)} to {max(epochs)} | {dice} |")
    labels = list(found["candidates"][0]["labels"])
    print(f"\n| model | mean Dice (95 % interval) | {' | '.join(labels)} | to the best (95 % interval) | Wilcoxon p |")
    print("|---" * (4 + len(labels)) + "|")
    for one in found["candidates"]:
        low, high = one["mean_dice_interval"]
        by_label = " | ".join(f"{one['labels'][label]:.4f}" for label in labels)
        below, above = one["difference_interval"]
        best = one["wilcoxon_p"] is None
        compared = (
            "- | -" if best else f"{one['difference']:.4f} ({below:.4f} to {above:.4f}) | {one['wilcoxon_p']:.1g}"
        )
        model = f"{' + '.join(one['members'])} | {one['mean_dice']:.4f} ({low:.4f} to {high:.4f})"
        print(f"| {model} | {by_label} | {compared} |")
    print(f"\nreport: {found['report_mb']:.1f} MB")


if __name__ == "__main__":
    main()

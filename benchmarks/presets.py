"""Train both presets' plans side by side for the same time: is the default plan worse than nnU-Net's?

    python benchmarks/presets.py hippocampus membrane --data DIR --work DIR

The two trainings of a dataset run at the same time, each bound to one core of its own, so that whatever else the
machine does slows both. Everything but the plan is equal: fold, seed, preprocessing, training loop. Scores are the mean
Dice over the held-out cases. Needs a machine of two cores or more on which processes can be bound to them (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from real_data import RECIPES

from nnlite import pipeline
from nnlite.data.records import read_record
from nnlite.evaluation.scores import Summary
from nnlite.planning.planner import Plan
from nnlite.training.curves import read_log
from nnlite.workspace import Workspace

FOLD = "fold0"
PLANS = {  # by name of the arm: how its plan is asked for
    "nnlite": ["--device", "cpu"],
    "nnunet": ["--preset", "nnunet"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One preset's training on one dataset."""

    dataset: str
    configuration: str
    preset: str
    patch_size: tuple[int, ...]
    batch_size: int
    features: tuple[int, ...]
    budget: str
    epochs: int
    steps: int
    mean_dice: float


def compare(name: str, data: Path, work: Path, budget: str, seed: int) -> list[Arm]:
    """Both arms of one dataset, trained at the same time on one core each."""
    configuration, description = RECIPES[name].configuration, RECIPES[name].description
    running = []
    for core, (preset, options) in zip(sorted(os.sched_getaffinity(0)), PLANS.items(), strict=False):
        place = work / preset
        if description is not None:
            (place / name).mkdir(parents=True, exist_ok=True)
            (place / name / "nnlite.json").write_text(json.dumps(description))
        nnlite("plan", str(data / name), "--no-probe", *options, "--work", str(place))
        pipeline.preprocess(data / name, [configuration], work=place)
        arguments = ["train", str(data / name), configuration, FOLD, "--time-budget", budget]
        arguments += ["--seed", str(seed), "--device", "cpu", "--work", str(place)]
        running.append((preset, place, core, arguments))
    processes = [
        subprocess.Popen(["taskset", "-c", str(core), *command(*arguments)]) for _, _, core, arguments in running
    ]
    if any([process.wait() for process in processes]):  # noqa: C419  wait for both, whatever the first ends with
        raise SystemExit(f"{name}: a training failed")
    return [arm(name, configuration, preset, place, budget) for preset, place, _, _ in running]


def arm(name: str, configuration: str, preset: str, work: Path, budget: str) -> Arm:
    """What a finished training reached."""
    workspace = Workspace(root=work, dataset=name)
    run = workspace.run(configuration, FOLD)
    planned = read_record(workspace.plan, Plan).configuration(configuration)
    epochs = read_log(run.log)
    mean_dice = read_record(run.summary, Summary).foreground["dice"]
    assert mean_dice is not None, "held-out cases have their labels"
    iterations = json.loads(run.config.read_text())["train"]["iterations"]
    return Arm(
        dataset=name,
        configuration=configuration,
        preset=preset,
        patch_size=planned.patch_size,
        batch_size=planned.batch_size,
        features=planned.topology.features,
        budget=budget,
        epochs=len(epochs),
        steps=len(epochs) * iterations,  # the last epoch may have ended early
        mean_dice=mean_dice,
    )


def command(*arguments: str) -> list[str]:
    """A command line of nnlite, run by this Python."""
    return [sys.executable, "-m", "nnlite", *arguments]


def nnlite(*arguments: str) -> None:
    """Run a command and stop here if it fails."""
    subprocess.run(command(*arguments), check=True, stdout=subprocess.DEVNULL)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare and print a table; ``--json`` keeps it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--time-budget", default="10m", help="of each training (default 10m)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args(argv)
    arms = []
    for name in options.datasets:
        arms += compare(name, options.data, options.work, options.time_budget, options.seed)
    print("| dataset | preset | patch | batch | features | epochs | mean Dice |\n|---|---|---|---|---|---|---|")
    for one in arms:
        patch, features = " x ".join(map(str, one.patch_size)), f"{one.features[0]} to {max(one.features)}"
        print(
            f"| {one.dataset} {one.configuration} | {one.preset} | {patch} | {one.batch_size} | {features} | "
            f"{one.epochs} | {one.mean_dice:.4f} |"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in arms], indent=1) + "\n")


if __name__ == "__main__":
    main()

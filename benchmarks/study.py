"""The study of docs/studies: architectures, losses, priors and augmentations, trained alike and scored on one fold.

    python benchmarks/study.py [--data ../shared/data] [--work DIR] [--datasets NAME ..] [--parts NAME ..] [--cores 0 1]
    python benchmarks/study.py --until 22:30    # begins no training that would not have ended by then
    python benchmarks/study.py --tables         # trains nothing, prints what is there as tables in Markdown

Every variant is planned for a CPU and trained for the same time (10 minutes in 3D, 5 in 2D) with two seeds, each
training on one core that it has for itself; then the held-out cases of fold0 are scored. What is finished is not
repeated, so the study may be interrupted and begun again. A variant that cannot be planned or trained is kept with what
nnlite said. Results go to benchmarks/results/study-cpu.json after each training.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any

import numpy as np

from nnlite.data.records import read_record
from nnlite.evaluation.cross_validation import case_means, dice_table
from nnlite.evaluation.scores import Summary, read_scores
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.cost import parameters
from nnlite.training.curves import read_log
from nnlite.workspace import Workspace

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "study-cpu.json"
SEEDS = (0, 1)
FOLD = "fold0"
RESAMPLES = 10_000  # of the held-out cases, for intervals
AFTERWARDS = timedelta(minutes=2)  # planning before a training, predicting held-out cases after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A dataset, the configuration that is trained on it, for how long, and names for labels that need some."""

    name: str
    configuration: str
    minutes: int
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is decided otherwise, as options of ``nnlite plan`` and ``nnlite train``."""

    name: str
    plan: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    only: tuple[str, ...] = ()  # datasets on which it makes sense; none: on all

    def configuration(self, data: Data, seed: int) -> str:
        """What a training of it is called."""
        return f"{data.configuration}@{self.name}-seed{seed}"


DATASETS = (
    Data(name="hippocampus", configuration="3d", minutes=10),
    Data(name="membrane", configuration="2d", minutes=5, labels={"background": 0, "inside": 255}),
    Data(name="cells", configuration="2d", minutes=5),
)
PARTS = {
    "architectures": tuple(
        Variant(name=name.replace("++", "-plus-plus"), plan=("--architecture", name))
        for name in ("unet", "resenc", "vnet", "unet++", "attention-unet", "unet-2015")
    ),
    "losses": (
        *(
            Variant(name=name.replace("+", "-"), train=("--loss", name))
            for name in (
                "ce",
                "dice",
                "focal+dice",
                "topk+dice",
                "tversky+ce",
                "generalised-dice+ce",
                "boundary+dice+ce",
            )
        ),
        Variant(name="border-weighted", train=("--loss", "border-weighted+dice"), only=("membrane", "cells")),
    ),
    "inputs": (
        Variant(name="as-planned", only=("hippocampus", "membrane")),  # unet once more, beside the others of these
        Variant(name="stem", plan=("--stem", "multi-scale")),
        Variant(name="no-augmentation", train=("--augmentation", "none")),
        Variant(name="mr-augmentation", train=("--augmentation", "mr"), only=("hippocampus",)),
        Variant(name="microscopy", train=("--augmentation", "microscopy"), only=("membrane", "cells")),
        Variant(name="atlas-channel", plan=("--prior", "channel"), only=("hippocampus",)),
        Variant(name="border-class", plan=("--instances", "border"), only=("cells",)),
    ),
}


def main() -> None:
    """Train what is missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("nnlite_work", "study"))
    parser.add_argument("--datasets", nargs="+", default=[one.name for one in DATASETS])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cores", nargs="+", type=int, default=sorted(os.sched_getaffinity(0)))
    parser.add_argument("--minutes", type=float, help="for all trainings, to try the study out")
    parser.add_argument("--until", help="HH:MM by which everything has ended")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--tables", action="store_true")
    arguments = parser.parse_args()
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    if arguments.tables:
        print(tables(results))
        return
    end = datetime.max
    if arguments.until:
        end = datetime.combine(datetime.now().date(), datetime.strptime(arguments.until, "%H:%M").time())
        end += timedelta(days=end < datetime.now())
    writing, cores = Lock(), Queue[int]()
    for core in arguments.cores:
        cores.put(core)

    def run(data: Data, part: str, variant: Variant, seed: int) -> None:
        minutes = arguments.minutes or data.minutes
        of_variant = results.get("datasets", {}).get(data.name, {}).get(part, {}).get(variant.name, {})
        workspace = Workspace(root=arguments.work, dataset=data.name)
        if str(seed) in of_variant and workspace.run(variant.configuration(data, seed), FOLD).summary.exists():
            return  # with the commit that it was measured with
        core = cores.get()
        try:
            if datetime.now() + timedelta(minutes=minutes) + AFTERWARDS > end:
                return
            found = trained(arguments, data, variant, seed, minutes, core)
        finally:
            cores.put(core)
        with writing:
            of_data = results.setdefault("datasets", {}).setdefault(data.name, {})
            of_data.setdefault(part, {}).setdefault(variant.name, {})[str(seed)] = found
            results["machine"] = f"a core each of {machine()}"
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")
        print(data.name, part, variant.name, seed, found.get("dice", found.get("error")), flush=True)

    chosen = [one for one in DATASETS if one.name in arguments.datasets]
    for data in chosen:
        prepare(arguments, data)
    with ThreadPoolExecutor(len(arguments.cores)) as pool:
        for training in [pool.submit(run, *job) for job in jobs(chosen, arguments.parts)]:
            training.result()


def jobs(datasets: Sequence[Data], parts: Sequence[str]) -> Iterator[tuple[Data, str, Variant, int]]:
    """All trainings: part after part, so that an interrupted study has whole tables."""
    for part, data, seed in product(parts, datasets, SEEDS):
        for variant in PARTS[part]:
            if not variant.only or data.name in variant.only:
                yield data, part, variant, seed


def prepare(arguments: argparse.Namespace, data: Data) -> None:
    """Plan a dataset and preprocess it, which all variants share that preprocess alike."""
    workspace = Workspace(root=arguments.work, dataset=data.name)
    if data.labels and not workspace.description.exists():
        workspace.folder.mkdir(parents=True, exist_ok=True)
        workspace.description.write_text(json.dumps({"labels": dict(data.labels)}))
    dataset, work = str(arguments.data / data.name), ("--work", str(arguments.work))
    for words in (("plan", dataset, "--device", "cpu"), ("preprocess", dataset, data.configuration)):
        if error := nnlite(arguments.cores[0], *words, *work):
            raise SystemExit(error)


def trained(
    arguments: argparse.Namespace, data: Data, variant: Variant, seed: int, minutes: float, core: int
) -> dict[str, Any]:
    """Plan and train one variant with one seed, unless that is done; its scores and costs."""
    workspace = Workspace(root=arguments.work, dataset=data.name)
    configuration = variant.configuration(data, seed)
    dataset, work = str(arguments.data / data.name), ("--work", str(arguments.work))
    if variant.plan and not workspace.plan_of(configuration.partition("@")[2]).exists():
        asked = ("--device", "cpu", *variant.plan, "--as", configuration.partition("@")[2])
        if error := nnlite(core, "plan", dataset, *asked, *work):
            return {"error": error}
    run = workspace.run(configuration, FOLD)
    if not run.summary.exists():
        length = ("--seed", str(seed), "--time-budget", f"{round(minutes * 60)}s")
        if error := nnlite(core, "train", dataset, configuration, FOLD, *length, *variant.train, *work):
            return {"error": error}
    return read(workspace, configuration)


def nnlite(core: int, *words: str) -> str:
    """Run a command on one core; what it said if it failed, else nothing."""
    done = subprocess.run(
        ["taskset", "-c", str(core), sys.executable, "-m", "nnlite", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return done.stderr.strip() if done.returncode else ""


def read(workspace: Workspace, configuration: str) -> dict[str, Any]:
    """What a finished training came to."""
    run = workspace.run(configuration, FOLD)
    summary, job, log = read_record(run.summary, Summary), read_record(run.config, RunConfig), read_log(run.log)
    planned, scores = job.plan.configuration(configuration), read_scores(run.scores, run.summary)
    of_cases = case_means(dice_table(scores, scores.cases, scores.labels))
    return {
        "dice": summary.foreground["dice"],
        "labels": {name: label.dice.mean for name, label in summary.labels.items()},
        "hd95_mm": summary.foreground["hd95_mm"],
        "cases": summary.cases,
        "dice_of_cases": {case: round(float(dice), 5) for case, dice in zip(scores.cases, of_cases, strict=True)},
        "parameters": parameters(job.plan, planned),
        "patch_size": list(planned.patch_size),
        "batch_size": planned.batch_size,
        "steps": len(log) * job.train.iterations,
        "s_per_step": statistics.median(epoch.duration_s for epoch in log) / job.train.iterations,
        "training_s": log[-1].elapsed_s,
        "versions": job.versions,
        "precision": job.train.precision,
        "commit": commit(),
    }


def tables(results: dict[str, Any]) -> str:
    """A table per dataset and part: mean over seeds, what each seed gave, the gain over the default, and costs."""
    lines: list[str] = []
    for dataset, parts in results["datasets"].items():
        for part, variants in parts.items():
            lines += [
                f"\n**{dataset}: {part}**\n",
                "| variant | Dice, mean of seeds | each seed | against the default, 95 % interval | HD95, each seed | "
                "parameters | patch, batch | steps | s/step |",
                "|---|---|---|---|---|---|---|---|---|",
            ]
            default = variants.get("as-planned", parts["architectures"]["unet"])
            lines += [_row(name, seeds, default) for name, seeds in variants.items()]
    return "\n".join(lines)


def _row(name: str, seeds: dict[str, dict[str, Any]], default: dict[str, dict[str, Any]]) -> str:
    done = [one for one in seeds.values() if "dice" in one]
    if not done:
        return f"| {name} | - | {next(iter(seeds.values()))['error'].splitlines()[0]} | | | | | | |"
    mean, first = statistics.fmean(one["dice"] for one in done), done[0]
    gain, low, high = against(_of_cases(done), _of_cases(list(default.values())))
    patch = " x ".join(map(str, first["patch_size"]))
    return (
        f"| {name} | {mean:.4f} | {', '.join(format(one['dice'], '.4f') for one in done)} | "
        f"{gain:+.4f} ({low:+.4f} to {high:+.4f}) | {', '.join(format(one['hd95_mm'], '.2f') for one in done)} | "
        f"{first['parameters'] / 1e6:.2f} M | {patch}, {first['batch_size']} | "
        f"{statistics.fmean(one['steps'] for one in done):.0f} | {first['s_per_step']:.3f} |"
    )


def _of_cases(seeds: Sequence[dict[str, Any]]) -> np.ndarray:
    """Dice (cases,) in the mean of the seeds; the held-out cases are the same for all."""
    return np.mean([[one["dice_of_cases"][case] for case in sorted(one["dice_of_cases"])] for one in seeds], axis=0)


def against(dice: np.ndarray, default: np.ndarray) -> tuple[float, float, float]:
    """Mean difference over the same cases, and its 95 % interval: cases drawn with replacement, the seeds as they are.

    What another seed would give is not in it.
    """
    count = len(dice)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    difference = dice - default
    low, high = np.quantile(draws @ difference / count, (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


def commit() -> str:
    """The state of nnlite that was measured."""
    words = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> str:
    """The processor, as the system calls it."""
    with Path("/proc/cpuinfo").open(encoding="utf-8") as info:
        names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()

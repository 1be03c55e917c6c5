"""How many training patches per second the loader gives, what each part of it costs, and what it costs an epoch.

    python benchmarks/loader.py [--data ../shared/data/hippocampus] [--work DIR] [--batch 9] [--rounds 7]
    python benchmarks/loader.py --steps 250 --device cuda    # an epoch with the loader against one without any loading

The cases are those of hippocampus, preprocessed for the 3D configuration of ``plan --preset nnunet`` (patch 40 x 56 x
40; batch 9 is what that preset gives for all 260 cases). Rates are patches per second; costs are milliseconds of
processor time per patch, of one thread that has a core for itself. Median and range of the rounds are printed as tables
in Markdown. Run it on an otherwise idle machine; on more than two cores with ``taskset -c 0,1``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import nnlite
from nnlite.data.memory import keep_freed_memory
from nnlite.networks.build import build_network
from nnlite.pipeline.plan_dataset import locate_dataset, read_plan
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.training.assemble import Batch, assemble
from nnlite.training.augmentation.presets import PRESETS
from nnlite.training.batches import BatchSource
from nnlite.training.config import default_config
from nnlite.training.learner import Learner

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hippocampus"
BATCHES = 40  # per round and measurement


def main() -> None:
    """Prepare the cases once, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("nnlite_work/loader"))
    parser.add_argument("--batch", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, help="compare epochs of so many training steps instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--augmentation", default="nnunet", choices=tuple(PRESETS))
    arguments = parser.parse_args()
    plan, configuration, cases = _prepared(arguments.data, arguments.work, arguments.batch)
    device = torch.device(arguments.device)

    keep_freed_memory()  # as train does

    def source(threads: int) -> BatchSource:
        return BatchSource(
            plan, configuration, cases, {}, seed=0, device=device, threads=threads, augmentation=arguments.augmentation
        )

    if arguments.steps is None:
        _print_costs(source(1), arguments.rounds)
        _print_rates({threads: source(threads) for threads in (1, 2)}, arguments.rounds)
    else:
        _print_epochs(plan, configuration, source(2), device, arguments.steps, arguments.rounds)


def _prepared(data: Path, work: Path, batch: int) -> tuple[Plan, Configuration, dict[str, StoredCase]]:
    nnlite.plan(data, work=work, device="cuda", memory_gib=8.0, preset="nnunet")  # needs no GPU: the memory is named
    nnlite.preprocess(data, ("3d",), work=work)
    workspace = locate_dataset(data, work)[1]
    plan, store = read_plan(workspace), CaseStore(workspace.cases("3d"))
    configuration = replace(plan.configuration("3d"), batch_size=batch)
    return plan, configuration, {case_id: store.open(case_id) for case_id in store.ids()}


def _print_costs(source: BatchSource, rounds: int) -> None:
    """Processor time of each part of the work, per patch."""
    torch.set_num_threads(1)  # as in a thread of the loader
    size, batch = source.patch_size, source.batch_size
    steps = source.augmentation.steps
    measured: dict[str, list[float]] = {
        name: [] for name in ("draw and read", "assemble", *(step.name for step in steps))
    }
    rng = np.random.default_rng(0)
    for turn in range(rounds + 1):
        spent = dict.fromkeys(measured, 0.0)
        for _ in range(BATCHES):
            started = time.thread_time()
            patches = source.training.draw(rng)
            drawn = time.thread_time()
            images = assemble(patches, size, source.device).images
            assembled = time.thread_time()
            spent["draw and read"] += drawn - started
            spent["assemble"] += assembled - drawn
            for step in steps:
                before = time.thread_time()
                replace(source.augmentation, steps=(step,)).change(images, rng)
                spent[step.name] += time.thread_time() - before
        if turn > 0:  # the first round reads the cases
            for name, seconds in spent.items():
                measured[name].append(1e3 * seconds / BATCHES / batch)
    print(f"patch {' x '.join(map(str, size))}, batch {batch}\n")
    print("| part | processor time per patch, ms |\n|---|---|")
    for name, costs in measured.items():
        print(f"| {name} | {_shown(costs, 3)} |")
    print(f"| all | {_shown([sum(costs) for costs in zip(*measured.values(), strict=True)], 3)} |\n")


def _print_rates(sources: dict[int, BatchSource], rounds: int) -> None:
    """Patches per second of the loader as a training uses it, by the number of its threads."""
    rates: dict[int, list[float]] = {threads: [] for threads in sources}
    for turn in range(rounds + 1):
        for threads, source in sources.items():
            started = time.perf_counter()
            patches = sum(len(batch.images) for batch in source.training_batches(turn, BATCHES))
            if turn > 0:
                rates[threads].append(patches / (time.perf_counter() - started))
    print("| loader threads | patches per second |\n|---|---|")
    for threads, measured in rates.items():
        print(f"| {threads} | {_shown(measured, 0)} |")


def _print_epochs(
    plan: Plan, configuration: Configuration, source: BatchSource, device: torch.device, steps: int, rounds: int
) -> None:
    """Time of an epoch with the loader, and of one that sees the same batch again and again."""
    network = build_network(plan, configuration).to(device)
    learner = Learner(network, default_config(device), batch_dice=False, device=device)
    network.train()
    (fixed,) = source.training_batches(0, 1)
    for _ in range(5):
        learner.step(fixed, 1e-3)

    def epoch(batches: Iterable[Batch]) -> float:
        _wait(device)
        started = time.perf_counter()
        for batch in batches:
            learner.step(batch, 1e-3)
        _wait(device)
        return time.perf_counter() - started

    def repeated() -> Iterator[Batch]:
        return itertools.repeat(fixed, steps)

    times: dict[str, list[float]] = {"two loader threads": [], "no data loading": []}
    for turn in range(rounds):
        times["two loader threads"].append(epoch(source.training_batches(turn, steps)))
        times["no data loading"].append(epoch(repeated()))
    print(f"| epoch of {steps} steps | seconds |\n|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {_shown(seconds, 3)} |")
    ratios = [with_loader / without for with_loader, without in zip(*times.values(), strict=True)]
    print(f"| ratio | {_shown(ratios, 3)} |")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _shown(numbers: list[float], digits: int) -> str:
    return f"{statistics.median(numbers):.{digits}f} ({min(numbers):.{digits}f} to {max(numbers):.{digits}f})"


if __name__ == "__main__":
    main()

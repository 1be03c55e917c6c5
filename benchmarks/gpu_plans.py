"""Whether default plans fit the GPUs they were made for: no plan may run out of memory, none should waste much.

    python benchmarks/gpu_plans.py --fingerprints FOLDER --out gpu_plans.json

FOLDER has a folder per dataset with nnU-Net's ``fingerprint.json``, and an ``expected.json`` that names the "channels"
and the number of "labels". Every dataset is planned for every memory size that the GPU has, and every configuration is
tried for two steps while torch's allocator is held to what a GPU of that size would leave it after CUDA's own needs:
what does not fit there runs out of memory here. A network that fitted a smaller GPU is not tried again.

The table is Markdown: "allocated" is the peak of all tensors, "reserved" what the allocator took of the GPU for them.
``--device cpu`` tries the script without a GPU: the growth of the resident set, and no limit.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from nnlite.data.labels import Labels
from nnlite.errors import PlanError
from nnlite.planning.configurations import Configuration
from nnlite.planning.cost import step_gib
from nnlite.planning.fingerprint import from_nnunet
from nnlite.planning.planner import Plan, make_plan
from nnlite.planning.spacing import voxels
from nnlite.training.config import default_config
from nnlite.training.probe import probe

GIB = 2**30
TARGETS_GIB = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80)  # what GPUs are sold with
COLUMNS = "dataset, configuration, patch, batch, target GiB, predicted GiB, allocated GiB, reserved GiB, step s"

Row = dict[str, object]


def main() -> None:
    """Print a row per plan and configuration and write them all; exit status 1 if any ran out of memory."""
    arguments = _arguments()
    device = torch.device(arguments.device)
    context = _context_bytes(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, CUDA itself takes {context / GIB:.2f} GiB\n")
    print(f"| {COLUMNS.replace(', ', ' | ')} |\n{'|---' * len(COLUMNS.split(', '))}|")
    rows: list[Row] = []
    tried: dict[object, Row] = {}
    for target, plan in _plans(arguments, device):
        _hold_to(target * GIB - context, device)
        for configuration in plan.configurations.values():
            if time.perf_counter() > arguments.time_budget:
                continue
            network = (configuration.topology, configuration.previous_stage, plan.channels, plan.labels)
            key = (configuration.patch_size, configuration.batch_size, *network)
            if tried.get(key, {}).get("measured") is None:  # what ran out of less memory may fit into more
                tried[key] = _try(plan, configuration, device)
            planned = {"dataset": plan.dataset, "configuration": configuration.name, "target_gib": target}
            rows.append({**planned, "predicted_gib": step_gib(plan, configuration), **tried[key]})
            print(_line(rows[-1]), flush=True)
    failed = sum(row["measured"] is None for row in rows)
    print(f"\n{len(rows)} configurations, {failed} ran out of memory")
    content = {"device": name, "torch": str(torch.__version__), "context_gib": context / GIB, "rows": rows}
    arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(1 if failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fingerprints", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("gpu_plans.json"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--datasets", nargs="*", help="folders of --fingerprints; all of them unless given")
    parser.add_argument("--targets", nargs="*", type=float, default=TARGETS_GIB, help="memory sizes in GiB")
    parser.add_argument("--time-budget", type=float, default=float("inf"), help="seconds; what comes later is left out")
    arguments = parser.parse_args()
    arguments.time_budget += time.perf_counter()
    return arguments


def _plans(arguments: argparse.Namespace, device: torch.device) -> Iterator[tuple[float, Plan]]:
    """Each dataset's default plan for each memory size, the smallest first."""
    has = torch.cuda.get_device_properties(device).total_memory / GIB if device.type == "cuda" else float("inf")
    for target in sorted(target for target in arguments.targets if target <= has):
        for folder in sorted(path.parent for path in arguments.fingerprints.glob("*/fingerprint.json")):
            if arguments.datasets and folder.name not in arguments.datasets:
                continue
            found = from_nnunet(json.loads((folder / "fingerprint.json").read_text(encoding="utf-8")))
            known = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
            values = tuple(range(known["labels"]))
            labels = Labels(names=("background", *(f"label {value}" for value in values[1:])), values=values)
            try:
                channels = known["channels"]
                yield (
                    target,
                    make_plan(found, dataset=folder.name, channels=channels, labels=labels, memory_gib=target),
                )
            except PlanError as problem:
                print(f"no plan of {folder.name} for {target:g} GiB: {problem}")


def _try(plan: Plan, configuration: Configuration, device: torch.device) -> Row:
    measured = probe(plan, configuration, default_config(device), device)
    return {
        "patch_size": configuration.patch_size,
        "batch_size": configuration.batch_size,
        "measured": None if measured is None else asdict(measured),
        "reserved_gib": torch.cuda.max_memory_reserved() / GIB if device.type == "cuda" else None,
    }


def _line(row: Row) -> str:
    where = f"{row['dataset']} | {row['configuration']} | {voxels(row['patch_size'])} | {row['batch_size']}"  # type: ignore[arg-type]
    numbers = f"{row['target_gib']:g} | {row['predicted_gib']:.2f}"
    measured = row["measured"]
    if not isinstance(measured, dict):
        return f"| {where} | {numbers} | **out of memory** | | |"
    reserved = "" if row["reserved_gib"] is None else f"{row['reserved_gib']:.2f}"
    return f"| {where} | {numbers} | {measured['memory_gib']:.2f} | {reserved} | {measured['step_s']:.3f} |"


def _hold_to(limit: float, device: torch.device) -> None:
    """Let torch's allocator take no more than ``limit`` bytes of the GPU."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))


def _context_bytes(device: torch.device) -> int:
    """What this process takes of the GPU besides torch's allocator: context, libraries, the kernels of a step."""
    if device.type == "cpu":
        return 0
    layer = torch.nn.Conv3d(8, 8, 3, device=device)
    layer(torch.ones(1, 8, 8, 8, 8, device=device)).sum().backward()
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


if __name__ == "__main__":
    main()

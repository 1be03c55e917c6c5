"""nnlite and nnU-Net v2 on the same data, stage by stage and in turn: medians, ranges, ratios.

    python benchmarks/compare.py --against nnunetv2 --python PATH_TO_ITS_PYTHON [STAGE ..] [--json] \
        [--nnunet-processes cores|default|both]

Each side of a stage is a process of its own (compare/nnlite_side.py by this Python, compare/nnunet_side.py by
nnU-Net's), and the sides take turns, so that a machine that slows down slows both. The clock runs inside the process
around the work: starting Python and importing are not counted, the start of worker processes is. The time of the whole
command is told beside it. Memory is the largest resident set of any one process, torch and all. The dataset is
hippocampus, the plan nnU-Net's own for 8 GiB; on a CPU its network is narrowed to 8 features, or a step takes 17 s.

How long nnU-Net takes depends on how many processes it is told to start. "cores" is nnU-Net tuned by somebody who knows
it: one process per core in every stage. "default" is what a user gets who types its commands as documented: 8 processes
for the fingerprint, for 2d and for evaluation, 4 for 3d, 3 + 3 for prediction, whatever the number of cores. Loader and
epoch are the same in both: its augmentation never starts more processes than there are cores.

Turning the dataset into nnU-Net's layout, and making what a stage starts from, is not timed. What is made stays in the
folder --work: take a new one for another version of either. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SIDES = {"nnunetv2": HERE / "compare" / "nnunet_side.py", "nnlite": HERE / "compare" / "nnlite_side.py"}
TABLE = HERE / "compare" / "table.py"
NNUNET_PROCESSES = {"nnUNet_def_n_proc": 8, "nnUNet_n_proc_DA": 12}  # its defaults, which "cores" cuts down
PREPARED_BY = {
    "dataset": ("nnunetv2",),
    "plan": ("nnlite", "nnunetv2"),
    "cases": ("nnlite", "nnunetv2"),
    "network": ("nnlite", "nnunetv2"),  # in this order: nnU-Net's takes the weights of nnlite's
    "masks": ("nnlite",),
}
CHOICES = {"cores": ("cores",), "default": ("default",), "both": ("default", "cores")}
LOG_TAIL = 12  # lines of a failed process that are shown
RESTORED = {"network_shape": (150, 340, 340), "image_shape": (200, 512, 512), "image_spacing_mm": (1.0, 0.8, 0.8)}
RESTORED_SMALL = RESTORED | {"network_shape": (60, 136, 136), "image_shape": (80, 204, 204)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is measured, and what it starts from. ``action`` is the function of both sides."""

    what: str
    action: str
    unit: str = "s"
    needs: tuple[str, ...] = ()
    precise: bool = False  # on a CPU nnlite may choose bfloat16, nnU-Net takes float32: measured in both
    rival: bool = True
    processes: bool = True  # whether nnU-Net's default is another number of processes than one per core
    repeats: int | None = None  # at most
    check: str | None = None  # what compares the results of both sides
    settings: Mapping[str, Any] = field(default_factory=dict)


DATA = ("dataset",)
PLANNED, CASES = (*DATA, "plan"), (*DATA, "plan", "cases")
STAGES = {
    "plan": Stage(what="fingerprint and plan, all cases", action="plan", needs=DATA),
    "preprocess": Stage(what="all cases for 2d and 3d", action="preprocess", needs=PLANNED),
    "restore": Stage(
        what="logits of 14 labels, 150x340x340, to labels 200x512x512",
        action="restore",
        needs=PLANNED,
        check="same_restored",
        settings=RESTORED | {"labels": 14},
    ),
    "restore-105": Stage(
        what="logits of 105 labels, 60x136x136, to labels 80x204x204",
        action="restore",
        needs=PLANNED,
        check="same_restored",
        settings=RESTORED_SMALL | {"labels": 105},
    ),
    "restore-105-large": Stage(
        what="logits of 105 labels, 150x340x340, to labels 200x512x512",  # nnU-Net: 27 GiB of arrays
        action="restore",
        needs=PLANNED,
        rival=False,
        repeats=1,
        settings=RESTORED | {"labels": 105},
    ),
    "predict": Stage(
        what="raw images to masks on disk, the same weights, 8 flips",
        action="predict",
        needs=(*CASES, "network"),
        precise=True,
        check="same_predicted",
    ),
    "evaluate": Stage(
        what="scores of pairs of masks; nnlite's with distances and lesions",
        action="evaluate",
        needs=(*PLANNED, "masks"),
    ),
    "evaluate-overlap": Stage(
        what="scores of pairs of masks, overlap alone in both",
        action="evaluate",
        needs=(*PLANNED, "masks"),
        settings={"metrics": ["overlap"]},
    ),
    "loader": Stage(
        what="3d training patches, fully augmented", action="loader", unit="patches/s", needs=CASES, processes=False
    ),
    "step": Stage(what="one 3d training step", action="step", needs=CASES, precise=True, processes=False),
    "epoch": Stage(
        what="one 3d epoch with loading and validation", action="epoch", needs=CASES, precise=True, processes=False
    ),
}


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Runs the sides of stages, and remembers what has been prepared."""

    python: Mapping[str, str]
    work: Path
    settings: dict[str, Any]
    nnunet_processes: tuple[str, ...]
    repeats: int
    timeout_s: float
    prepared: set[str] = field(default_factory=set)

    def run(self, stage: Stage) -> dict[str, Any]:
        """Measure a stage; what goes wrong is told in place of the results."""
        started = time.perf_counter()
        found: dict[str, Any] = {"what": stage.what, "unit": stage.unit}
        try:
            for need in stage.needs:
                self._prepare(need)
            found |= self._measure(stage)
        except RuntimeError as error:
            found["failed"] = str(error)
        return found | {"duration_s": round(time.perf_counter() - started, 1)}

    def _prepare(self, need: str) -> None:
        if need not in self.prepared:
            for side in PREPARED_BY[need]:
                self._side(side, f"prepare_{need}", self.settings)
            self.prepared.add(need)

    def _measure(self, stage: Stage) -> dict[str, Any]:
        contestants = self._contestants(stage)
        samples: dict[str, list[dict[str, Any]]] = {}
        for _ in range(min(stage.repeats or self.repeats, self.repeats)):
            for name, choices in contestants.items():
                settings = self.settings | stage.settings | choices
                samples.setdefault(name, []).append(self._side(name.split()[0], stage.action, settings))
        parameters = {sample["parameters"] for one in samples.values() for sample in one if "parameters" in sample}
        if len(parameters) > 1:
            raise RuntimeError(f"the networks differ: they have {parameters} parameters")
        found = {name: summary(one) for name, one in samples.items()}
        rivals = [name for name in found if name.startswith("nnunetv2")]
        for name in found.keys() - set(rivals):
            higher_is_better = stage.unit != "s"
            found[name]["against"] = {
                rival: ratios(found[name], found[rival], higher_is_better=higher_is_better) for rival in rivals
            }
        if stage.check is not None and stage.rival:
            found["agreement"] = self._side("nnlite", stage.check, self.settings | stage.settings)["agreement"]
        return found

    def _contestants(self, stage: Stage) -> dict[str, dict[str, str]]:
        """Who takes turns at a stage: the name begins with the side, the rest says what it is told beside the stage."""
        found: dict[str, dict[str, str]] = {}
        if stage.rival and not stage.processes:
            found["nnunetv2"] = {}
        elif stage.rival:
            found |= {f"nnunetv2 {choice}": {"nnunet_processes": choice} for choice in self.nnunet_processes}
        found["nnlite"] = {}
        if stage.precise and self.settings["device"] == "cpu":
            found["nnlite fp32"] = {"precision": "fp32"}
        return found

    def _side(self, side: str, action: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Run one action in a process of its own; RuntimeError with the end of its log if it fails."""
        log, request, result = (self.work / f"{side}-{action}.{suffix}" for suffix in ("log", "in.json", "out.json"))
        request.write_text(json.dumps(settings))
        result.unlink(missing_ok=True)
        command = [self.python[side], str(SIDES[side]), action, str(request), str(result)]
        started = time.perf_counter()
        with log.open("w") as output:
            try:
                status = subprocess.run(
                    command, stdout=output, stderr=output, env=self._environment(settings), timeout=self.timeout_s
                ).returncode
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{side} {action} took longer than {self.timeout_s:g} s; see {log}") from None
        command_s = time.perf_counter() - started
        if status != 0 or not result.exists():
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL:])
            raise RuntimeError(f"{side} {action} ended with status {status}; the end of {log}:\n{tail}")
        told = settings["precision"] if side == "nnlite" else f"{settings['nnunet_processes']} processes"
        print(f"  {side} {action} ({told}): {command_s:.1f} s", file=sys.stderr)
        return json.loads(result.read_text()) | {"command_s": command_s}

    def _environment(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What nnU-Net is told by environment variables: its folders and the number of its processes."""
        folders = {name: str(self.work / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        processes = {name: str(min(count, self.settings["workers"])) for name, count in NNUNET_PROCESSES.items()}
        if settings["nnunet_processes"] == "default":
            processes = {}
        compiled = {} if self.settings["device"] == "cuda" else {"nnUNet_compile": "f"}  # its default on a GPU is to
        inherited = {name: value for name, value in os.environ.items() if name not in NNUNET_PROCESSES}
        return {**inherited, **folders, **processes, **compiled}


def summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and range of what was measured, and of the wall time of the processes; peak memory over all."""
    values, commands = ([sample[key] for sample in samples] for key in ("value", "command_s"))
    extra = {key: samples[0][key] for key in ("parameters", "gpu_peak_gib", "versions") if key in samples[0]}
    before = [sample["gib_before"] for sample in samples if "gib_before" in sample]
    return {
        "median": statistics.median(values),
        "range": [min(values), max(values)],
        "samples": values,
        "command_median_s": statistics.median(commands),
        "command_range_s": [min(commands), max(commands)],
        "peak_gib": max(sample["peak_gib"] for sample in samples),
        **({"gib_before": max(before)} if before else {}),
        **extra,
    }


def ratios(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, higher_is_better: bool) -> dict[str, Any]:
    """How many times faster nnlite is (below 1: slower), and what share of nnU-Net's peak memory it takes."""
    better, worse = (ours, theirs) if higher_is_better else (theirs, ours)
    return {
        "times_faster": better["median"] / worse["median"],
        "times_faster_range": [better["range"][0] / worse["range"][1], better["range"][1] / worse["range"][0]],
        "command_times_faster": theirs["command_median_s"] / ours["command_median_s"],
        "memory_share": ours["peak_gib"] / theirs["peak_gib"],
    }


def report(results: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """What a results file holds; versions are told once, machine paths not at all."""
    versions = {}
    for found in results.values():
        for name in (key for key in found if key.startswith(("nnlite", "nnunetv2"))):
            versions[name.split()[0]] = found[name].pop("versions")
    kept = ("device", "workers", "cases", "base_features", "iterations")
    commit = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    return {
        "date": date.today().isoformat(),
        "commit": subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip(),
        "machine": _machine(),
        "versions": versions,
        "settings": {key: settings[key] for key in kept}
        | {"repeats": repeats, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
        "stages": results,
    }


def _machine() -> str:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next(line.split(":")[1].strip() for line in cpuinfo.open() if line.startswith("model name"))
    return f"{os.cpu_count()} cores of {model}"


def main() -> None:
    """Compare the stages named on the command line."""
    arguments = parse()
    work, on_gpu = arguments.work.resolve(), arguments.device == "cuda"
    work.mkdir(parents=True, exist_ok=True)
    settings = {
        "dataset": str(arguments.dataset.resolve()),
        "work": str(work),
        "device": arguments.device,
        "precision": "default",
        "nnunet_processes": "cores",
        "workers": len(os.sched_getaffinity(0)),
        "cases": arguments.cases,
        "base_features": arguments.features or (32 if on_gpu else 8),
        "iterations": arguments.iterations or (50 if on_gpu else 4),
    }
    comparison = Comparison(
        python={"nnlite": sys.executable, arguments.against: arguments.python},
        work=work,
        settings=settings,
        nnunet_processes=CHOICES[arguments.nnunet_processes],
        repeats=arguments.repeats,
        timeout_s=arguments.timeout,
    )
    results: dict[str, dict[str, Any]] = {}
    for name, stage in STAGES.items():
        if name in arguments.stages or not arguments.stages:
            print(f"{name}: {stage.what}", file=sys.stderr)
            results[name] = comparison.run(stage)
    written = arguments.json or work / "results.json"
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(json.dumps(report(results, settings, arguments.repeats), indent=2) + "\n")
    subprocess.run([sys.executable, str(TABLE), str(written)], check=True)
    if any("failed" in found for found in results.values()):
        sys.exit(1)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; none: all")
    parser.add_argument("--against", choices=["nnunetv2"], default="nnunetv2")
    parser.add_argument("--python", required=True, help="the Python that nnU-Net is installed for")
    parser.add_argument("--nnunet-processes", choices=CHOICES, default="both", help="how many nnU-Net starts")
    parser.add_argument("--dataset", type=Path, default=HERE.parents[1] / "shared" / "data" / "hippocampus")
    parser.add_argument("--work", type=Path, default=Path("nnlite_work", "compare"), help="folder for all that is made")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", type=int, default=60, help="that are predicted and evaluated")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--features", type=int, help="at full resolution; default 8 on a CPU, 32 (the plan's) on a GPU")
    parser.add_argument("--iterations", type=int, help="steps timed, and per epoch; default 4 on a CPU, 50 on a GPU")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one process may take")
    parser.add_argument("--json", type=Path, nargs="?", const=Path(), help="write the results, here if not named")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - STAGES.keys():
        parser.error(f"there is no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    if arguments.json == Path():
        arguments.json = HERE / "results" / f"compare-{arguments.against}-{arguments.device}.json"
    return arguments


if __name__ == "__main__":
    main()

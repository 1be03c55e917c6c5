"""How time and memory grow: with the size of a volume, the number of labels, of cases, and of processor cores.

    python benchmarks/cost_curves.py [--quick] [--work DIR]

Each point is a process of its own (cost_curves/stages.py) on drawn data: preprocess, restore (logits to labels),
predict (files to masks) and evaluate (masks to all metrics), one thing varied at a time. Told are wall time, processor
time, and the largest resident set, Python and torch included. Results go to results/cost-curves-cpu.json and plots to
docs/images; --quick takes a few small points and leaves both in DIR. Linux only. Run it on an otherwise idle machine:
memory does not depend on what else runs, times do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STAGES = HERE / "cost_curves" / "stages.py"
PLOTS = HERE / "cost_curves" / "plots.py"
RESULTS = HERE / "results" / "cost-curves-cpu.json"
IMAGES = HERE.parent / "docs" / "images"

Shape = tuple[int, int, int]
SMALL: Shape = (48, 96, 96)  # many of these
MIDDLE: Shape = (96, 192, 192)  # 3.5 million voxels: what labels and cores are varied on
FEW, MANY = 6, 105  # labels of a phantom, and of TotalSegmentator


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One point of a curve: which curve, where on it, and what was measured."""

    varied: str
    stage: str
    shape: Shape
    labels: int
    cases: int
    cores: int
    wall_s: float = 0.0
    cpu_s: float = 0.0
    before_gib: float = 0.0
    peak_gib: float = 0.0


def points(cores: int, quick: bool) -> Iterator[Measured]:
    """All that is to be measured."""
    sides = (64, 96, 128) if quick else (96, 128, 192, 256, 320, 400)
    for stage in ("preprocess", "restore", "predict", "evaluate"):
        for side in sides[: 4 if stage == "predict" else None]:  # a network takes its time
            yield Measured(
                varied="voxels", stage=stage, shape=(side // 2, side, side), labels=FEW, cases=1, cores=cores
            )
    middle = SMALL if quick else MIDDLE
    for stage in ("restore", "predict", "evaluate"):
        for labels in (2, MANY) if quick else (2, 14, 53, MANY):
            yield Measured(varied="labels", stage=stage, shape=middle, labels=labels, cases=1, cores=cores)
    for stage in ("preprocess", "predict", "evaluate"):
        for cases in (2, 4) if quick else (4, 16, 64):
            yield Measured(varied="cases", stage=stage, shape=SMALL, labels=FEW, cases=cases, cores=cores)
    for stage in ("preprocess", "restore", "predict", "evaluate"):
        for used in core_counts(cores):
            cases = 1 if stage == "restore" else 4 if quick else 8
            shape = MIDDLE if stage == "restore" else SMALL
            yield Measured(varied="cores", stage=stage, shape=shape, labels=FEW, cases=cases, cores=used)


def core_counts(cores: int) -> list[int]:
    """1, 2, 4, .. and all.

    >>> core_counts(6)
    [1, 2, 4, 6]
    """
    doubled = [2**power for power in range(cores.bit_length()) if 2**power < cores]
    return [*doubled, cores]


def measured(point: Measured, work: Path) -> Measured:
    """The same point with what its process has measured."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    request, result = work / "point.json", work / "result.json"
    asked = {name: getattr(point, name) for name in ("stage", "shape", "labels", "cases", "cores")}
    request.write_text(json.dumps(asked | {"folder": str(work)}))
    for action in ("prepare", point.stage)[point.stage == "restore" :]:  # restoring needs no files
        subprocess.run([sys.executable, str(STAGES), action, str(request), str(result)], check=True)
    found = asdict(point) | json.loads(result.read_text())
    shutil.rmtree(work)
    return Measured(**found)


def environment() -> dict[str, Any]:
    """When, where and with what it was measured; no machine paths."""
    commit = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    processor = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in processor if line.startswith("model name")]
    packages = {name: version(name) for name in ("nnlite", "torch", "numpy", "scipy", "SimpleITK")}
    return {
        "date": date.today().isoformat(),
        "commit": subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip(),
        "machine": f"{len(os.sched_getaffinity(0))} cores of {names[0]}",
        "versions": {"python": platform.python_version(), **packages},
    }


def main() -> None:
    """Measure, write the results, draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few small points, to see that it runs")
    parser.add_argument("--work", type=Path, help="folder for the data; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        found = []
        for point in points(len(os.sched_getaffinity(0)), options.quick):
            one = measured(point, work / "point")
            at = "x".join(map(str, one.shape)), f"{one.labels} labels", f"{one.cases} cases", f"{one.cores} cores"
            cost = f"{one.wall_s:.2f} s, {one.cpu_s:.2f} s of processor, {one.peak_gib:.2f} GiB"
            print(f"{one.varied}: {one.stage} {' '.join(at)}: {cost}", flush=True)
            found.append(asdict(one))
        results, images = (work / "results.json", work / "images") if options.quick else (RESULTS, IMAGES)
        results.write_text(json.dumps({**environment(), "points": found}, indent=1) + "\n")
        subprocess.run([sys.executable, str(PLOTS), str(results), str(images)], check=True)


if __name__ == "__main__":
    main()

"""What predicting with an imported model costs, beside nnU-Net with the same weights: time and memory of commands.

    python benchmarks/imported_models.py --python PYTHON_OF_NNUNET --data ../shared/data --out imported.json

nnU-Net trains two small networks for a few steps (benchmarks/nnunet_models.py). Then both predict from files to masks
on the CPU with the settings their commands have when nothing is asked for: 60 volumes of hippocampus, and one phantom
CT of 200 x 512 x 512 voxels with 14 labels. ``--exact`` is measured as well. Memory is that of all processes of a
command together, shared pages counted once (PSS, Linux), sampled. ``--quick`` tries it all at a small size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bounded_prediction import write_ct
from nnunet_plans import DATASETS, dataset, plans
from same_masks import TRAINING_CASES, copied, phantoms

from nnlite import pipeline
from nnlite.data.image import read_image

SAMPLING_S = 0.1
BYTES_PER_GIB = 2**30
STEPS = 60
CT_SHAPE, QUICK_CT_SHAPE = (200, 512, 512), (50, 128, 128)
CT_SPACING_MM, QUICK_CT_SPACING_MM = (2.5, 0.8, 0.8), (10.0, 3.2, 3.2)
COLUMNS = "images, computed by, wall s, CPU s, peak GiB, voxels that differ, of"


def main() -> None:
    """Print a row per set of images and command and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python in which nnU-Net v2 is installed")
    parser.add_argument("--data", type=Path, required=True, help="folder of hippocampus")
    parser.add_argument("--out", type=Path, required=True, help="file for all numbers")
    parser.add_argument("--work", type=Path, help="folder for models and images [default: a temporary one]")
    parser.add_argument("--features", type=int, default=8, help="features of the first stage; nnU-Net plans 32")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        prepare(work, options)
        print(f"| {COLUMNS.replace(', ', ' | ')} |\n{'|---' * len(COLUMNS.split(', '))}|")
        rows = [row for name in ("hippocampus", "trunk") for row in compare(work, name, options)]
    options.out.write_text(json.dumps(rows, indent=2) + "\n")


def prepare(work: Path, options: argparse.Namespace) -> None:
    """Images to train on and to predict, and the models that nnU-Net trains."""
    training = {"trunk": phantoms(work)[:TRAINING_CASES]}
    names = copied(work, options.data / "hippocampus", TRAINING_CASES + (4 if options.quick else 60))
    training["hippocampus"] = names[:TRAINING_CASES]
    for name in names[TRAINING_CASES:]:
        path = work / "predicted" / "hippocampus" / f"{name}_0000.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.link(work / "images" / path.name, path)
    shape, spacing = (QUICK_CT_SHAPE, QUICK_CT_SPACING_MM) if options.quick else (CT_SHAPE, CT_SPACING_MM)
    write_ct(work / "predicted" / "trunk" / "ct_0000.nii.gz", shape, spacing)
    models = [
        {
            "name": name,
            "plans": plans(name, "plain", options.features),
            "dataset": dataset(name, TRAINING_CASES),
            "configuration": "3d_fullres",
            "folds": 1,
            "steps": STEPS,
            "training": cases,
            "images": [],
        }
        for name, cases in training.items()
    ]
    (work / "models.json").write_text(json.dumps({"models": models}, indent=2))
    subprocess.run([options.python, Path(__file__).with_name("nnunet_models.py"), work], check=True)


def compare(work: Path, name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """nnU-Net's command and nnlite's, on the same images with the same weights."""
    trained = work / "results" / DATASETS[name]["name"] / "nnUNetTrainer__PlainPlans__3d_fullres"
    model = work / "imported" / name
    if not model.exists():
        pipeline.import_nnunet([trained], model)
    images, masks = work / "predicted" / name, work / "masks" / name
    rival = options.python.with_name("nnUNetv2_predict_from_modelfolder")
    ours = [sys.executable, "-m", "nnlite", "predict", model, images, "--device", "cpu"]
    commands: dict[str, list[Any]] = {
        "nnU-Net": [rival, "-i", images, "-o", masks / "nnU-Net", "-m", trained, "-f", "0", "-device", "cpu"],
        "nnlite": [*ours, "-o", masks / "nnlite"],
        "nnlite --exact": [*ours, "-o", masks / "nnlite --exact", "--exact"],
    }
    rows = []
    for told, command in commands.items():
        measured = [cost(command) for _ in range(options.repeats)]
        row: dict[str, Any] = {"images": name, "computed by": told}
        row |= {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        row |= differing(masks / "nnU-Net", masks / told)
        print(
            "| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()) + " |", flush=True
        )
        rows.append(row | {"runs": measured})
    return rows


def cost(command: Sequence[Any]) -> dict[str, float]:
    """Wall time, processor time and largest memory of a command with all processes that it starts."""
    environment = os.environ | {"nnUNet_compile": "f"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], env=environment, stdout=subprocess.DEVNULL)
    peak = [0]
    watching = threading.Thread(target=_watch, args=(process.pid, peak))
    watching.start()
    if process.wait():
        raise SystemExit(f"{command[0]} failed; try it by hand: {' '.join(map(str, command))}")
    wall = time.perf_counter() - started
    watching.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall s": wall, "CPU s": spent, "peak GiB": peak[0] / BYTES_PER_GIB}


def differing(theirs: Path, ours: Path) -> dict[str, int]:
    """Voxels whose label differs, over all masks of two folders."""
    voxels = found = 0
    for path in sorted(theirs.glob("*.nii.gz")):
        one, other = (read_image(folder / path.name).array for folder in (theirs, ours))
        voxels += one.size
        found += int(np.count_nonzero(one != other))
    return {"voxels that differ": found, "of": voxels}


def _watch(root: int, peak: list[int]) -> None:
    """Keep the largest memory of a process and its descendants in ``peak`` until it has ended."""
    while psutil.pid_exists(root):
        try:
            parent = psutil.Process(root)
            together = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        peak[0] = max(peak[0], sum(_memory(one) for one in together))
        time.sleep(SAMPLING_S)


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
        return 0


if __name__ == "__main__":
    main()

"""Two processes against one, and a cluster whose worker is killed: ``python benchmarks/several_processes.py``.

First a fold is trained by one process and by two (torchrun, gloo), 20 steps of the same global batch of three, with
batch Dice: the loss of every step, and the weights after the last. Each epoch has one step, so that log.jsonl tells its
loss. Optimiser and precision are those of a GPU's defaults in float32, those of a CPU's in float32, and what this
machine takes by itself. Then images are predicted by two workers of a dask cluster, one of which gets SIGKILL while it
predicts; what lies on the disk must be what one process leaves. The commands are those that users type.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnlite.data.image import Geometry, write_image
from nnlite.data.records import read_record, write_record
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.planner import Plan
from nnlite.training.checkpoint import load_model
from nnlite.training.config import TrainConfig, default_config
from nnlite.training.curves import read_log
from nnlite.workspace import RunFolder, Workspace

NNLITE = (sys.executable, "-m", "nnlite")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
CASES = 6
SHAPE = (32, 36, 34)
STEPS = 20
BATCH = 3  # two processes have unequal shares of it
CPU = torch.device("cpu")
PATIENCE_S = 600.0


def write_balls(folder: Path, cases: int, *, labels: bool) -> None:
    """Noisy balls, as a dataset or as images alone."""
    geometry = Geometry(shape=SHAPE, spacing_mm=(2.0, 1.5, 1.5))
    for number in range(cases):
        rng = np.random.default_rng((number, labels))
        distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - rng.uniform(14, 20, 3), axis=-1)
        label = (distance < 11).astype(np.uint8) + (distance < 5)
        image = 100 + 60.0 * label + rng.normal(0, 25, SHAPE)
        write_image(folder / "images" / f"ball_{number:02}.nii.gz", image[None].astype(np.float32), geometry)
        if labels:
            write_image(folder / "labels" / f"ball_{number:02}.nii.gz", label[None].astype(np.uint8), geometry)
    if labels:
        table = {"channels": ["MR"], "labels": {"background": 0, "ball": 1, "core": 2}}
        (folder / "nnlite.json").write_text(json.dumps(table))


def run(*command: str) -> None:
    """A command to its good end."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def trained(data: Path, work: Path, wanted: TrainConfig, processes: int) -> RunFolder:
    """A fold of 20 steps; a config.json that lies there already says with which optimiser, and in which precision."""
    decided = ("--set", f"3d.batch_size={BATCH}", "--set", "3d.batch_dice=true")
    run(*NNLITE, "plan", str(data), "--device", "cpu", "--no-probe", *decided, "--work", str(work))
    workspace = Workspace(root=work, dataset=data.name)
    folder = workspace.run("3d", "fold0")
    plan = read_record(workspace.plan, Plan)
    begun = RunConfig(plan=plan, configuration="3d", fold="fold0", train=wanted, device="cpu", versions={})
    write_record(folder.config, begun)
    start = NNLITE if processes == 1 else (*TORCHRUN, str(processes), "-m", "nnlite")
    length = ("--epochs", str(STEPS), "--iterations", "1", "--device", "cpu")
    run(*start, "train", str(data), "3d", "fold0", *length, "--work", str(work))
    return folder


def settings() -> list[TrainConfig]:
    """The trainings to compare, each once."""
    usual = default_config(CPU, epochs=STEPS, iterations=1)
    published = replace(TrainConfig(), epochs=STEPS, iterations=1, validation_iterations=usual.validation_iterations)
    return list(dict.fromkeys((published, replace(usual, precision="fp32"), usual)))


def compared(data: Path, scratch: Path, wanted: TrainConfig) -> dict[str, Any]:
    """One process against two, and one against itself."""
    one, again, two = (
        trained(data, scratch / f"{wanted.optimizer}-{wanted.precision}-{name}", wanted, processes)
        for name, processes in (("one", 1), ("again", 1), ("two", 2))
    )
    losses = [[epoch.train_loss for epoch in read_log(folder.log)] for folder in (one, again, two)]
    return {
        "optimizer": wanted.optimizer,
        "precision": wanted.precision,
        "losses_one_process": losses[0],
        "losses_two_processes": losses[2],
        "largest_loss_difference": max(abs(a - b) for a, b in zip(losses[0], losses[2], strict=True)),
        "largest_loss_difference_repeated": max(abs(a - b) for a, b in zip(losses[0], losses[1], strict=True)),
        **weights_apart(one, two),
    }


def weights_apart(one: RunFolder, two: RunFolder) -> dict[str, float]:
    """How far the weights of two trainings are from each other, by largest difference and by norm."""
    first, second = (load_model(folder.checkpoint_final).weights for folder in (one, two))
    apart = torch.cat([(first[name] - second[name]).double().flatten() for name in first])
    norm = torch.cat([weight.double().flatten() for weight in first.values()]).norm()
    return {
        "largest_weight_difference": float(apart.abs().max()),
        "relative_weight_difference": float(apart.norm() / norm),
    }


def digests(folder: Path) -> dict[str, str]:
    """What a prediction has left, by name; notes and leftovers, which begin with a dot, are counted apart."""
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def predict(work: Path, images: Path, output: Path, *options: str) -> tuple[str, ...]:
    """The command that predicts all images."""
    model, where = str(work / "balls"), ("--device", "cpu", "--preview", "--entropy")
    return (*NNLITE, "predict", model, str(images), "-o", str(output), *where, "--work", str(work), *options)


def killed(work: Path, images: Path, scratch: Path, count: int) -> dict[str, Any]:
    """Predict with two workers, kill one that is at a case when a third of all is done, and compare."""
    from distributed import Client, LocalCluster

    alone, spread = scratch / "alone", scratch / "spread"
    run(*predict(work, images, alone))
    quiet = {"memory_limit": 0, "dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as cluster, Client(cluster) as client:
        command = predict(work, images, spread, "--cluster", cluster.scheduler_address)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        victim, at_work = _busy_worker(client, process, spread, enough=count // 3)
        os.kill(client.run(os.getpid)[victim], signal.SIGKILL)
        done_before = len(list(spread.glob("*.prediction.json")))
        _, told = process.communicate(timeout=PATIENCE_S)
    return {
        "images": count,
        "exit_status": process.returncode,
        "stderr": told.splitlines()[-3:],
        "written_when_killed": done_before,
        "under_way_when_killed": at_work,
        "files_expected": len(digests(alone)),
        "files": len(digests(spread)),
        "files_that_differ": sorted(
            name
            for name in digests(alone).keys() | digests(spread)
            if digests(alone).get(name) != digests(spread).get(name)
        ),
        "unfinished_files_left": sorted(path.name for path in spread.iterdir() if path.name.startswith(".")),
    }


def _busy_worker(client: Any, process: subprocess.Popen, output: Path, *, enough: int) -> tuple[str, Sequence[str]]:
    """A worker that is at a case, as soon as so many cases are written, and what it is at."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE_S and process.poll() is None:
        if len(list(output.glob("*.prediction.json"))) >= enough:
            for worker, tasks in client.processing().items():
                if tasks:
                    return worker, [str(task).rpartition("-")[0] for task in tasks]
        time.sleep(0.01)
    raise SystemExit("the prediction was over before a worker could be killed; take more images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12, help="images to predict")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_balls(scratch / "balls", CASES, labels=True)
        write_balls(scratch / "new", arguments.images, labels=False)
        training = [compared(scratch / "balls", scratch, wanted) for wanted in settings()]
        work = scratch / "sgd-fp32-one"
        prediction = killed(work, scratch / "new" / "images", scratch, arguments.images)
    results = {
        "machine": {"kind": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("nnlite", "torch", "numpy", "distributed")},
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "training": training,
        "prediction": prediction,
    }
    for one in training:
        loss, weight, norm = (
            one[f"{kind}_difference"] for kind in ("largest_loss", "largest_weight", "relative_weight")
        )
        print(f"{one['optimizer']} {one['precision']}: loss {loss:.2g}, weights {weight:.2g}, of their norm {norm:.2g}")
    print(json.dumps(prediction, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Kill nnlite at random moments, and fill its disk, and see whether anything is lost: ``python benchmarks/faults.py``.

Each trial runs the real command line in a process of its own, which is killed (SIGKILL) after a random time, again and
again; then it may end, and what lies on the disk must be, bit for bit, what an undisturbed run leaves. For full disks
the folder is a small tmpfs that is filled up at a random moment and emptied again. Linux, as root (for the tmpfs).
The processes are forked from one that has loaded nnlite and torch, so that a trial costs no start of Python. Moments
are counted in processor time, so that other work on the machine does not decide where kills hit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch

from nnlite.cli import app
from nnlite.data.image import Geometry, write_image

CASES = 6
SETUP = ("--device", "cpu")
LENGTH = ("--iterations", "2")
SHAPE = (16, 20, 18)  # of an image: small, so that kills hit all parts of a command
VOLATILE = ("duration_s", "elapsed_s", "eta_s", "data_wait_share")  # clocks differ from run to run, and may
IN_PASSING = (".lock", ".png")  # pictures show the clocks, too
PATIENCE_S = 900.0
KILLS_PER_ROUND = 10  # of a command that is over in seconds
LOADED = ("predict_images", "prepare_cases", "select_model", "train_folds")  # and all that these bring along


def write_balls(folder: Path) -> None:
    """A dataset of noisy balls."""
    geometry = Geometry(shape=SHAPE, spacing_mm=(2.0, 1.5, 1.5))
    for number in range(CASES):
        rng = np.random.default_rng(number)
        distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - rng.uniform(7, 10, 3), axis=-1)
        image = 100 + 60.0 * (distance < 6) + rng.normal(0, 5, SHAPE)
        write_image(folder / "images" / f"ball_{number}.nii.gz", image[None].astype(np.float32), geometry)
        write_image(folder / "labels" / f"ball_{number}.nii.gz", (distance < 6)[None].astype(np.uint8), geometry)
    (folder / "nnlite.json").write_text('{"channels": ["MR"], "labels": {"background": 0, "ball": 1}}')


def nnlite(arguments: list[str], log: Path) -> int:
    """Begin a command in a process of its own; returns the process's number."""
    process = os.fork()
    if process:
        return process
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    status = 1
    try:
        status = app(arguments, standalone_mode=False) or 0
    finally:
        os._exit(status)


def ended(process: int, within_s: float) -> int | None:
    """The exit status of a process that ends within this processor time of its own, else None."""
    deadline, watched = time.monotonic() + PATIENCE_S, psutil.Process(process)
    while time.monotonic() < deadline:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        used = watched.cpu_times()
        if used.user + used.system >= within_s:
            return None
        time.sleep(0.005)
    return None


def run(arguments: list[str], log: Path) -> float:
    """Run a command to its good end; returns the processor time that it took."""
    before = os.times()
    process = nnlite(arguments, log)
    status = ended(process, PATIENCE_S)
    if status != 0:
        if status is None:
            os.kill(process, signal.SIGKILL)
        raise SystemExit(f"nnlite {' '.join(arguments)} ended with {status}:\n{log.read_text()[-2000:]}")
    after = os.times()
    return round(sum(after[2:4]) - sum(before[2:4]), 2)


def killed(arguments: list[str], log: Path, *, kills: int, longest_s: float, rng: random.Random) -> tuple[int, bool]:
    """Kill a command so many times at random moments; returns how often, and whether it ended before that."""
    done = 0
    while done < kills:
        process = nnlite(arguments, log)
        status = ended(process, rng.uniform(0, longest_s))
        if status == 0:
            return done, True
        if status is not None:
            raise SystemExit(f"nnlite {' '.join(arguments)} ended with {status}:\n{log.read_text()[-2000:]}")
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        done += 1
    return done, False


def digests(folder: Path) -> dict[str, str]:
    """What lies below a folder, by relative path, clocks and pictures of them left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.suffix in IN_PASSING or path.name.startswith((".writing-", "checkpoint_last")):
            continue
        if path.name.startswith("checkpoint_previous"):
            continue  # how old it is depends on when states were saved
        content = path.read_bytes()
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in content.decode().splitlines()]
            kept = [{key: value for key, value in line.items() if key not in VOLATILE} for line in lines]
            content = json.dumps(kept).encode()  # the epochs: none lost, none twice
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def differing(whole: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of files that only one of two folders has, or that hold something else there."""
    return sorted(name for name in whole.keys() | other.keys() if whole.get(name) != other.get(name))


class Bench:
    """A dataset of phantoms, planned once; each trial works on a copy of the workspace."""

    def __init__(self, folder: Path, seed: int, epochs: int):
        self.folder, self.rng, self.epochs = folder, random.Random(seed), epochs
        self.data, self.log = folder / "balls", folder / "said.log"
        write_balls(self.data)
        self.planned = folder / "planned"
        run(["plan", str(self.data), "--no-probe", *SETUP, "--work", str(self.planned)], self.log)

    def copy(self, name: str, of: Path | None = None) -> Path:
        """A copy of the planned workspace, or of another one."""
        return Path(shutil.copytree(of or self.planned, self.folder / name))

    def train(self, work: Path) -> list[str]:
        length = ("--epochs", str(self.epochs), *LENGTH)
        return ["train", str(self.data), "3d", "fold0", *length, *SETUP, "--work", str(work)]

    def preprocess(self, work: Path) -> list[str]:
        return ["preprocess", str(self.data), "--work", str(work)]

    def predict(self, work: Path, output: Path) -> list[str]:
        where = ("--work", str(work), "-o", str(output))
        return ["predict", str(self.data), str(self.data / "images"), "--no-mirroring", *SETUP, *where]

    def kill_training(self, kills: int, longest_s: float) -> dict[str, object]:
        """One training, killed so many times."""
        whole, cut = self.copy("train-whole"), self.copy("train-killed")
        seconds = run(self.train(whole), self.log)
        done, early = killed(self.train(cut), self.log, kills=kills, longest_s=longest_s, rng=self.rng)
        run(self.train(cut), self.log)
        runs = [work / "balls" / "runs" for work in (whole, cut)]
        wanted = digests(runs[0])
        return {
            "undisturbed_cpu_s": seconds,
            "kills": done,
            "ended_early": early,
            "left_over": [path.name for path in runs[1].rglob(".writing-*")],
            "files_compared": len(wanted),
            "different": differing(wanted, digests(runs[1])),
        }

    def kill_preprocessing(self, kills: int) -> dict[str, object]:
        """Preprocessing, begun anew whenever it comes to its end, killed so many times in all."""
        whole = self.copy("cases-whole")
        seconds = run(self.preprocess(whole), self.log)
        wanted = digests(whole / "balls" / "cases")
        return {"undisturbed_cpu_s": seconds} | self._rounds(
            kills, self.preprocess, lambda work: digests(work / "balls" / "cases"), wanted, seconds
        )

    def kill_prediction(self, trained: Path, kills: int) -> dict[str, object]:
        """Prediction of all cases, begun anew whenever it comes to its end, killed so many times in all."""
        output = self.folder / "masks-whole"
        seconds = run(self.predict(trained, output), self.log)
        wanted = digests(output)
        return {"undisturbed_cpu_s": seconds} | self._rounds(
            kills,
            lambda out: self.predict(trained, out / "masks"),
            lambda out: digests(out / "masks"),
            wanted,
            seconds / 2,
        )

    def _rounds(
        self,
        kills: int,
        command: Callable[[Path], list[str]],
        state: Callable[[Path], dict[str, str]],
        wanted: dict[str, str],
        longest_s: float,
    ) -> dict[str, object]:
        """Kill a command until it has come to its end or was killed ``KILLS_PER_ROUND`` times; then anew."""
        done, rounds, different = 0, 0, set[str]()
        while done < kills:
            work = self.copy(f"round-{time.monotonic_ns()}")
            most = min(kills - done, KILLS_PER_ROUND)
            more, _ = killed(command(work), self.log, kills=most, longest_s=longest_s, rng=self.rng)
            run(command(work), self.log)
            different |= set(differing(wanted, state(work)))
            shutil.rmtree(work)
            done, rounds = done + more, rounds + 1
        return {"kills": done, "rounds": rounds, "files_compared": len(wanted), "different": sorted(different)}


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A disk of its own in main memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all that is free on a disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return ballast


def full_disks(bench: Bench, times: int, longest_s: float, wanted: dict[str, str]) -> dict[str, object]:
    """Preprocess and train on a small disk that is full at random moments; each time it is emptied and goes on."""
    messages, finished = 0, 0
    statuses: list[int | None] = []
    different: set[str] = set()
    with small_disk(bench.folder / "disk", 400) as disk:
        while len(statuses) < times:
            shutil.rmtree(disk / "work", ignore_errors=True)
            shutil.copytree(bench.planned, disk / "work")
            arguments = bench.train(disk / "work")
            while len(statuses) < times:
                said = bench.folder / f"full-{len(statuses)}.log"
                process = nnlite(arguments, said)
                status = ended(process, bench.rng.uniform(0, longest_s))
                if status == 0:
                    break
                ballast = fill(disk)
                status = ended(process, PATIENCE_S)
                ballast.unlink()
                if status == 0:
                    break  # nothing more was to be written
                statuses.append(status)
                messages += "error: the disk is full: " in said.read_text() and "Traceback" not in said.read_text()
            run(arguments, bench.log)
            finished += 1
            different |= set(differing(wanted, digests(disk / "work" / "balls" / "runs")))
    return {
        "full": len(statuses),
        "exit_statuses": sorted(set(statuses), key=str),
        "clear_messages": messages,
        "trainings_finished": finished,
        "files_compared": len(wanted),
        "different": sorted(different),
    }


def main() -> None:
    """Run all trials and print, or write, what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of a training, of preprocessing and of prediction")
    parser.add_argument("--full", type=int, default=20, help="how often the disk is full")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--longest-s", type=float, default=0.8, help="processor time until a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # no pool of threads before a fork
    for name in LOADED:
        import_module(f"nnlite.pipeline.{name}")
    import_module("matplotlib.figure")
    words = [asked.json.name if Path(word) == asked.json else word for word in sys.argv]  # not where it lies
    about = {"command": " ".join(["python", *words]), "seed": asked.seed, "machine": platform.machine()}
    about |= {"python": platform.python_version(), **{name: version(name) for name in ("nnlite", "torch", "numpy")}}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    found: dict[str, object] = {"about": {**about, "commit": commit.stdout.strip()}}

    def tell(what: str, result: dict[str, object]) -> None:
        print(what, json.dumps(result), flush=True)
        found[what] = result
        if asked.json:  # each time: what comes later may take long
            asked.json.write_text(json.dumps(found, indent=2) + "\n")

    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), asked.seed, asked.epochs)
        tell("training", bench.kill_training(asked.kills, asked.longest_s))
        trained = bench.folder / "train-whole"
        tell("preprocessing", bench.kill_preprocessing(asked.kills))
        wanted = digests(trained / "balls" / "runs")
        tell("full_disk", full_disks(bench, asked.full, 2 * asked.longest_s, wanted))
        tell("prediction", bench.kill_prediction(trained, asked.kills))


if __name__ == "__main__":
    main()

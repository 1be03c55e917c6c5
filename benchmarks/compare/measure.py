"""What both sides of the comparison share: the settings, the stopwatch, and the way a result is handed back.

Standard library and numpy alone, for each side runs in an interpreter of its own. A side is a script with one function
per stage, called as ``python SIDE.py STAGE SETTINGS.json RESULT.json``. A stage imports what it needs before the clock
starts, and the imports lie inside of the functions: worker processes read the script again and should load no more than
they would in the tool's own command.
"""

from __future__ import annotations

import gc
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

KIB_PER_GIB = 2**20
BYTES_PER_GIB = 2**30
LOADING_S = 10.0  # hundreds of batches for the faster side
COARSE = 8  # voxels between the random numbers that smooth logits are interpolated from
SHARPNESS = 5.0  # standard deviation of the logits: one label clearly wins nearly everywhere, as in a trained network


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is to be done, the same for both sides; labels and shapes are for restoration, metrics for evaluation."""

    dataset: str
    work: str
    device: str
    precision: str  # "default" is the tool's own choice
    nnunet_processes: str  # "cores": one per core; "default": as many as its commands start if not told otherwise
    workers: int
    cases: int
    base_features: int
    iterations: int
    metrics: tuple[str, ...] = ("overlap", "distances", "lesions")
    labels: int = 0
    network_shape: tuple[int, int, int] = (0, 0, 0)
    image_shape: tuple[int, int, int] = (0, 0, 0)
    image_spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def network_spacing_mm(self) -> tuple[float, ...]:
        """Spacing of the grid on which the network answers."""
        sizes = zip(self.image_spacing_mm, self.image_shape, self.network_shape, strict=True)
        return tuple(spacing * image / network for spacing, image, network in sizes)

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The first cases of the dataset."""
        labels = sorted((Path(self.dataset) / "labelsTr").glob("*.nii.gz"))
        return tuple(path.name.removesuffix(".nii.gz") for path in labels[: self.cases])

    def folder(self, name: str) -> Path:
        """A folder below the working folder."""
        return Path(self.work) / name


def timed(work: Callable[[], object]) -> dict[str, Any]:
    """Do the work once; its wall time, and the memory this process had come to before it."""
    gc.collect()
    before = _peak_gib(resource.RUSAGE_SELF)
    started = time.perf_counter()
    work()
    return {"value": time.perf_counter() - started, "gib_before": before}


def rate(draw: Callable[[], object]) -> float:
    """How often per second something can be drawn, over some seconds."""
    drawn, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < LOADING_S:
        draw()
        drawn += 1
    return drawn / passed


def smooth_logits(settings: Settings, dtype: np.dtype | type) -> np.ndarray:
    """Logits (labels, z, y, x) whose labels win in blobs, label by label so that memory holds little beside them."""
    import torch

    rng = np.random.default_rng(0)
    logits = np.empty((settings.labels, *settings.network_shape), dtype=dtype)
    coarse = [max(2, size // COARSE) for size in settings.network_shape]
    for volume in logits:
        drawn = torch.from_numpy(rng.standard_normal((1, 1, *coarse), dtype=np.float32))
        fine = torch.nn.functional.interpolate(drawn, size=settings.network_shape, mode="trilinear")
        volume[...] = fine[0, 0].numpy() * SHARPNESS
    return logits


def run_side(stages: Mapping[str, Callable[[Settings], dict[str, Any]]], packages: tuple[str, ...]) -> None:
    """Do what the command line says, and write what was measured, with peak memory and versions."""
    stage, settings_path, result_path = sys.argv[1:]
    fields = json.loads(Path(settings_path).read_text())
    result = stages[stage](Settings(**fields))
    result["peak_gib"] = max(_peak_gib(resource.RUSAGE_SELF), _peak_gib(resource.RUSAGE_CHILDREN))
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        result["gpu_peak_gib"] = torch.cuda.max_memory_reserved() / BYTES_PER_GIB
    result["versions"] = {"python": platform.python_version()} | {name: version(name) for name in packages}
    Path(result_path).write_text(json.dumps(result))


def _peak_gib(whose: int) -> float:
    """Largest resident set so far, of this process or of the largest of its finished children."""
    return resource.getrusage(whose).ru_maxrss / KIB_PER_GIB

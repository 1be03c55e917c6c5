"""All metrics on real masks: do they equal those of the surface-distance package, and how long do they take?

    pip install surface-distance
    python benchmarks/metrics.py [--data ../shared/data]

Predictions are the true masks one voxel off, without their first fifth of slices and with an island in a corner: errors
at every border, a part that is missed and one that is made up, the same on every machine. Prints three tables: the
whole command `nnlite evaluate` on 60 hippocampus pairs; differences from surface-distance, and the time of both; a
whole-body scan of 105 labels. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import surface_distance

from nnlite.data.image import Geometry, read_label, write_mask
from nnlite.data.labels import Labels
from nnlite.evaluation.scores import score_case
from nnlite.evaluation.surface import SurfaceDistances, surface_distances

HERE = Path(__file__).resolve().parent
PAIRS = 60
ROUNDS = 5
TOLERANCE_MM = 2.0
WHOLE_BODY = Geometry(shape=(600, 512, 512), spacing_mm=(1.5, 0.8, 0.8))
ORGANS = 105  # as many as TotalSegmentator has
NUMBERS = ("HD", "HD95", "average distance", "surface Dice")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    data = parser.parse_args().data
    warnings.simplefilter("ignore", DeprecationWarning)  # surface-distance calls scipy by names of old
    time_command(data / "hippocampus")
    compare(data, {"hippocampus": PAIRS, "sarcoma": 21})
    time_whole_body()


def predicted(truth: np.ndarray) -> np.ndarray:
    """The prediction that goes with a true mask."""
    prediction = np.roll(truth, (1, 1, -1), axis=(0, 1, 2))
    prediction[: truth.shape[0] // 5] = 0
    prediction[-3:, :3, :3] = truth.max()
    return prediction


def time_command(dataset: Path) -> None:
    """The command a user types, start of Python and reading of files included."""
    with tempfile.TemporaryDirectory() as name:
        truth, prediction = Path(name) / "labels", Path(name) / "predictions"
        truth.mkdir()
        for path in _masks(dataset, PAIRS):
            (truth / path.name).symlink_to(path.resolve())
            mask = read_label(path)
            write_mask(prediction / path.name, predicted(mask.array[0]), like=mask)
        command = [sys.executable, "-m", "nnlite", "evaluate", str(truth), str(prediction)]
        seconds = [_seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(ROUNDS)]
    print(f"| `nnlite evaluate`, {PAIRS} pairs of {dataset.name} | median of {ROUNDS}, s | range, s |\n|---|---|---|")
    print(f"| whole command | {statistics.median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} |\n")


def compare(data: Path, datasets: dict[str, int]) -> None:
    """Largest difference of each number from surface-distance, and the time both take for it."""
    print(f"| masks | pairs | {' | '.join(NUMBERS)} | nnlite, ms a pair | surface-distance, ms a pair |")
    print("|---" * (len(NUMBERS) + 4) + "|")
    for name, cases in datasets.items():
        largest, ours_s, theirs_s, pairs = np.zeros(len(NUMBERS)), 0.0, 0.0, 0
        for truth, geometry in _with_geometry(data / name, cases):
            prediction, count = predicted(truth), int(truth.max()) + 1
            started = time.perf_counter()
            ours = [_ours(found) for found in surface_distances(truth, prediction, geometry.spacing_mm, count)[1:]]
            between = time.perf_counter()
            theirs = [_theirs(truth == label, prediction == label, geometry) for label in range(1, count)]
            theirs_s += time.perf_counter() - between
            ours_s += between - started
            pairs += 1
            largest = np.maximum(largest, np.abs(np.subtract(ours, theirs)).max(axis=0))
        differences = " | ".join(f"{difference:.1e}" for difference in largest)
        print(f"| {name} | {pairs} | {differences} | {ours_s / pairs * 1e3:.1f} | {theirs_s / pairs * 1e3:.1f} |")
    print()


def time_whole_body() -> None:
    """All metrics of a scan as large as they come, with islands everywhere."""
    generator = np.random.default_rng(0)
    truth = np.zeros(WHOLE_BODY.shape, dtype=np.uint8)
    for label in range(1, ORGANS + 1):
        radii = generator.integers(15, 70, size=3)
        box = tuple(
            slice(low, low + 2 * r) for low, r in zip(generator.integers(0, 512 - 2 * radii), radii, strict=True)
        )
        z, y, x = np.ogrid[tuple(slice(-1, 1, 2j * r) for r in radii)]
        truth[box][z**2 + y**2 + x**2 < 1] = label
    prediction = np.roll(truth, (1, 1), axis=(0, 1))
    for z, y, x in generator.integers(0, 509, size=(2000, 3)):
        prediction[z : z + 3, y : y + 3, x : x + 3] = generator.integers(1, ORGANS + 1)
    names = ("background", *(f"organ {label}" for label in range(1, ORGANS + 1)))
    labels = Labels(names=names, values=tuple(range(ORGANS + 1)))
    before = _peak_gib()
    seconds = _seconds(lambda: score_case("whole body", truth, prediction, labels, WHOLE_BODY))
    shape = " x ".join(map(str, WHOLE_BODY.shape))
    print("| one scan, all metrics | s | memory beside the masks, GiB |\n|---|---|---|")
    print(f"| {shape}, {ORGANS} labels | {seconds:.1f} | {_peak_gib() - before:.2f} |")


def _ours(found: SurfaceDistances) -> list[float]:
    return [found.hausdorff_mm(), found.hausdorff_mm(95), found.average_mm(), found.surface_dice(TOLERANCE_MM)]


def _theirs(truth: np.ndarray, prediction: np.ndarray, geometry: Geometry) -> list[float]:
    """The same numbers from surface-distance; its two averages are pooled by area."""
    found = surface_distance.compute_surface_distances(truth, prediction, geometry.spacing_mm)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    averages = surface_distance.compute_average_surface_distance(found)
    return [
        surface_distance.compute_robust_hausdorff(found, 100),
        surface_distance.compute_robust_hausdorff(found, 95),
        (averages[0] * areas[0] + averages[1] * areas[1]) / sum(areas),
        surface_distance.compute_surface_dice_at_tolerance(found, TOLERANCE_MM),
    ]


def _with_geometry(dataset: Path, cases: int) -> Iterator[tuple[np.ndarray, Geometry]]:
    for path in _masks(dataset, cases):
        mask = read_label(path)
        yield mask.array[0], mask.geometry


def _masks(dataset: Path, cases: int) -> list[Path]:
    return sorted((dataset / "labelsTr").glob("*.nii.gz"))[:cases]


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak_gib() -> float:
    """The most memory this process has held so far; Linux counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()

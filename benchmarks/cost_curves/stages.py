"""One point of a cost curve: a stage of nnlite on drawn data, its time and peak memory. Run by cost_curves.py.

    python stages.py prepare|preprocess|restore|predict|evaluate POINT.json RESULT.json

The data is drawn in a process of its own ("prepare"), so that a stage's peak memory is the stage's. Volumes are phantom
abdomens enlarged to the size asked for; with more labels than a phantom has, its organs are cut into bricks. Networks
work at 0.8 times the resolution of the images, so that every stage resamples. The clock runs inside of the process,
around the work: Python's start and imports are not counted.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from nnlite.data.labels import Labels
    from nnlite.planning.fingerprint import Fingerprint
    from nnlite.planning.planner import Plan

SPACING_MM = (2.0, 1.0, 1.0)
COARSER = 1.25  # a voxel of the network beside one of the image
PATCH, FEATURES = (64, 64, 64), 4  # of the network that predicts, narrow: its arithmetic is torch's, not nnlite's
BAND = 16  # slices of logits that restoring is given at a time
BRICKS = 8  # along each axis
CASES_PLANNED = 10
DATASET, RUN = "phantoms", "model"
KIB_PER_GIB, BYTES_PER_GIB = 2**20, 2**30
Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What is measured; ``labels`` with background."""

    stage: str
    shape: Triple
    labels: int
    cases: int
    cores: int
    folder: str

    @property
    def dataset(self) -> Path:
        return Path(self.folder) / DATASET

    @property
    def network_shape(self) -> Triple:
        z, y, x = (round(size / COARSER) for size in self.shape)
        return z, y, x

    @property
    def network_spacing_mm(self) -> tuple[float, float, float]:
        z, y, x = (spacing * COARSER for spacing in SPACING_MM)
        return z, y, x


def prepare(point: Point) -> None:
    """Images, labels, masks one voxel off, a plan, and a network with random weights."""
    from nnlite.data.image import Geometry, write_image
    from nnlite.data.records import write_record, write_text
    from nnlite.workspace import Workspace

    geometry = Geometry(shape=point.shape, spacing_mm=SPACING_MM)
    for case in range(point.cases):
        hu, labels = draw(point, seed=case)
        name = f"case_{case:03d}.nii.gz"
        write_image(point.dataset / "images" / name, hu[None], geometry)
        write_image(point.dataset / "labels" / name, labels[None], geometry)
        if point.stage == "evaluate":
            write_image(Path(point.folder) / "masks" / name, np.roll(labels, 1, axis=(0, 1, 2))[None], geometry)
    names = {name: value for value, name in enumerate(label_table(point).names)}
    write_text(point.dataset / "nnlite.json", json.dumps({"channels": ["CT"], "labels": names}))
    plan, workspace = plan_of(point), Workspace(root=Path(point.folder), dataset=DATASET)
    write_record(workspace.plan, plan)
    write_record(workspace.fingerprint, fingerprint_of(point.shape, SPACING_MM))
    if point.stage == "predict":
        write_model(plan, Path(point.folder) / RUN)


def draw(point: Point, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A CT and its labels, both (z, y, x)."""
    from nnlite.data.phantom import draw_case

    case = draw_case(seed)
    enlarged = np.ix_(*(np.arange(n) * size // n for n, size in zip(point.shape, case.hu.shape, strict=True)))
    rng = np.random.default_rng(seed)
    hu = case.hu[enlarged].astype(np.int16) + rng.integers(-15, 16, size=point.shape, dtype=np.int16)
    labels = case.labels[enlarged].astype(np.uint8)
    if point.labels <= int(case.labels.max()) + 1:
        return hu, np.minimum(labels, point.labels - 1)
    z, y, x = np.ogrid[tuple(slice(0, size) for size in point.shape)]
    depth, height, width = point.shape
    brick = ((z * BRICKS // depth) * BRICKS + y * BRICKS // height) * BRICKS + x * BRICKS // width
    inside = labels > 0
    labels[inside] = 1 + np.unique(brick[inside], return_inverse=True)[1] % (point.labels - 1)
    return hu, labels


def label_table(point: Point) -> Labels:
    from nnlite.data.labels import Labels

    return Labels.from_table({f"structure {value}": value for value in range(1, point.labels)})


def fingerprint_of(shape: Triple, spacing_mm: tuple[float, float, float]) -> Fingerprint:
    """What a dataset of such images is like."""
    from nnlite.planning.fingerprint import Fingerprint, IntensityProperties

    hounsfield = IntensityProperties(
        mean=80.0, median=90.0, std=90.0, min=-1000.0, max=1000.0, percentile_00_5=-150.0, percentile_99_5=300.0
    )
    return Fingerprint(
        spacings_mm=(spacing_mm,) * CASES_PLANNED,
        shapes_after_crop=(shape,) * CASES_PLANNED,
        intensities=(hounsfield,),
        median_relative_size_after_crop=1.0,
    )


def plan_of(point: Point) -> Plan:
    """A plan for a CPU, its spacing coarser than that of the images."""
    from dataclasses import replace

    from nnlite.planning.planner import make_plan
    from nnlite.planning.topology import plan_topology

    fingerprint = fingerprint_of(point.network_shape, point.network_spacing_mm)
    plan = make_plan(fingerprint, dataset=DATASET, channels=["CT"], labels=label_table(point), device="cpu")
    topology, patch = plan_topology(point.network_spacing_mm, PATCH, base_features=FEATURES)
    configuration = replace(plan.configuration("3d"), topology=topology, patch_size=patch)
    return replace(plan, configurations={"3d": configuration})


def write_model(plan: Plan, folder: Path) -> None:
    """A run with a network that was never trained."""
    import torch

    from nnlite.data.records import write_text
    from nnlite.networks.build import build_network
    from nnlite.training.checkpoint import Checkpoint, ModelCard, save_model
    from nnlite.workspace import RunFolder

    torch.manual_seed(0)
    weights = build_network(plan, plan.configuration("3d")).state_dict()
    card = ModelCard(plan=plan, configuration="3d", fold="fold0", epoch=0, mirror_axes=())
    run = RunFolder(folder=folder)
    save_model(run.checkpoint_final, Checkpoint(card=card, weights=weights))
    write_text(run.config, "{}\n")  # its presence marks a run


def preprocess(point: Point) -> Callable[[], object]:
    """From files to cases of the 3d configuration on disk."""
    import SimpleITK  # noqa: F401 (all loaded before the clock starts)

    from nnlite import pipeline
    from nnlite.pipeline import prepare_cases  # noqa: F401

    return lambda: pipeline.preprocess(point.dataset, ["3d"], work=Path(point.folder))


def restore(point: Point) -> Callable[[], object]:
    """From logits to labels on the image's grid; the same band of random logits is given again and again."""
    import torch

    from nnlite.preprocessing.preprocess import Restoration
    from nnlite.preprocessing.restore import restore_labels

    z, y, x = point.shape
    restoration = Restoration(
        case_id="random",
        shape=point.shape,
        box=((0, z), (0, y), (0, x)),
        transpose=(0, 1, 2),
        cropped_shape=point.shape,
        spacing_mm=SPACING_MM,
        resampled_shape=point.network_shape,
        resampled_spacing_mm=point.network_spacing_mm,
    )
    depth, *plane = point.network_shape
    band = torch.randn((point.labels, BAND, *plane), generator=torch.Generator().manual_seed(0))

    def bands() -> Iterator[Tensor]:
        for first in range(0, depth, BAND):
            yield band[:, : depth - first]

    return lambda: restore_labels(bands(), restoration)


def predict(point: Point) -> Callable[[], object]:
    """From images to masks on disk, without mirroring."""
    import SimpleITK  # noqa: F401

    from nnlite import pipeline
    from nnlite.pipeline import predict_images  # noqa: F401

    model, masks = Path(point.folder) / RUN, Path(point.folder) / "predicted"
    return lambda: pipeline.predict(model, [point.dataset / "images"], masks, device="cpu", mirroring=False)


def evaluate(point: Point) -> Callable[[], object]:
    """From two folders of masks to all metrics on disk."""
    import scipy.spatial  # noqa: F401
    import SimpleITK  # noqa: F401
    import skimage.measure  # noqa: F401

    from nnlite import pipeline
    from nnlite.pipeline import evaluate_masks  # noqa: F401

    folder = Path(point.folder)
    return lambda: pipeline.evaluate(point.dataset / "labels", folder / "masks", output=folder / "scores")


STAGES = {stage.__name__: stage for stage in (preprocess, restore, predict, evaluate)}


def measure(work: Callable[[], object]) -> dict[str, float]:
    """Wall and processor time of the work, memory of the process before it, and the most that it has held."""
    import psutil

    before = psutil.Process().memory_info().rss
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"wall_s": wall, "cpu_s": cpu, "before_gib": before / BYTES_PER_GIB, "peak_gib": peak / KIB_PER_GIB}


def main() -> None:
    """Prepare or measure one point."""
    action, point_path, result_path = sys.argv[1:]
    fields = json.loads(Path(point_path).read_text())
    point = Point(**fields | {"shape": tuple(fields["shape"])})
    if action == "prepare":
        prepare(point)
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: point.cores])  # before torch counts its threads
    Path(result_path).write_text(json.dumps(measure(STAGES[action](point))))


if __name__ == "__main__":
    main()

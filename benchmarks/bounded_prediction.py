"""How much memory and time a large prediction takes: 105 labels on a CT of 600 x 512 x 512 voxels, from file to mask.

    python benchmarks/bounded_prediction.py [--mirroring] [--patch 128,112,112] [--probabilities] [--work DIR]

Two things are measured, each in a process of its own whose largest resident set the system reports (Linux):

- restoring 14 and 105 labels from 150 x 340 x 340 to 200 x 512 x 512 voxels, beside the logits that go in
- `predict` as the command line calls it: the file of a phantom CT with voxels of 1.0 x 0.8 x 0.8 mm, a model of 105
  labels at 1.5 mm as `plan --device cpu` plans it (--patch widens its window), with weights drawn at random; the
  network therefore works on a grid of 400 x 273 x 273. Without --mirroring each window is predicted once, not 8 times,
  which costs time and hardly any memory.

Results are printed as JSON. Memory does not depend on what else runs on the machine, times do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nnlite import pipeline
from nnlite.data.image import Geometry, read_label, write_image
from nnlite.data.labels import Labels
from nnlite.data.phantom import draw_case
from nnlite.data.records import write_text
from nnlite.networks.build import build_network
from nnlite.planning.configurations import Configuration
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties
from nnlite.planning.planner import Plan, make_plan
from nnlite.planning.topology import plan_topology
from nnlite.preprocessing.preprocess import Restoration
from nnlite.preprocessing.resample import resample
from nnlite.preprocessing.restore import restore_labels
from nnlite.training.checkpoint import Checkpoint, ModelCard, save_model
from nnlite.workspace import RunFolder

LABELS = 105
CT_SHAPE, CT_SPACING_MM = (600, 512, 512), (1.0, 0.8, 0.8)
NETWORK_SHAPE, IMAGE_SHAPE = (150, 340, 340), (200, 512, 512)
PLANNED_MM, PLANNED_SHAPE = (1.5, 1.5, 1.5), (280, 260, 260)  # as the images of TotalSegmentator's dataset
BAND = 32  # slices of logits that the restoration is given at a time


def resident_gib(peak: bool) -> float:
    """Memory of this process that lies in RAM, now or at its largest."""
    name = "VmHWM:" if peak else "VmRSS:"
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 2**20


def restore(labels: int) -> dict[str, object]:
    """Time and memory of bringing random logits to the image's grid; the same band of them is given again and again."""
    shape, spacing = IMAGE_SHAPE, (1.0, 0.8, 0.8)
    restoration = Restoration(
        case_id="random",
        shape=shape,
        box=((0, shape[0]), (0, shape[1]), (0, shape[2])),
        transpose=(0, 1, 2),
        cropped_shape=shape,
        spacing_mm=spacing,
        resampled_shape=NETWORK_SHAPE,
        resampled_spacing_mm=(1.33, 1.2, 1.2),
    )
    band = torch.randn((labels, BAND, *NETWORK_SHAPE[1:]), generator=torch.Generator().manual_seed(0))

    def slabs() -> Iterator[Tensor]:
        for first in range(0, NETWORK_SHAPE[0], BAND):
            yield band[:, : NETWORK_SHAPE[0] - first]

    before, started = resident_gib(peak=False), time.perf_counter()
    restore_labels(slabs(), restoration)
    seconds = time.perf_counter() - started
    return {"labels": labels, "duration_s": seconds, "beside_input_gib": resident_gib(peak=True) - before}


def predict(folder: Path, probabilities: bool) -> dict[str, object]:
    """Time and memory of the whole process, from the file to the mask."""
    started = time.perf_counter()
    result = pipeline.predict(
        folder / "model", [folder / "ct.nii.gz"], folder / "masks", device="cpu", probabilities=probabilities
    )
    seconds = time.perf_counter() - started
    peak = resident_gib(peak=True)
    found = len(np.unique(read_label(result.masks[0]).array))
    return {"duration_s": seconds, "resident_gib": peak, "labels_in_mask": found, "threads": torch.get_num_threads()}


def write_ct(
    path: Path,
    shape: tuple[int, int, int] = CT_SHAPE,
    spacing_mm: tuple[float, float, float] = CT_SPACING_MM,
) -> None:
    """A phantom abdomen, stretched to the size of a whole trunk, with noise."""
    small = torch.from_numpy(draw_case(seed=1).hu[None].astype(np.float32))
    hu = resample(small, shape, order=1)[0].to(torch.int16).numpy()
    rng = np.random.default_rng(1)
    for section in hu:
        section += rng.integers(-20, 21, size=section.shape, dtype=np.int16)
    write_image(path, hu[None], Geometry(shape=shape, spacing_mm=spacing_mm))


def write_model(folder: Path, patch: tuple[int, ...] | None, mirroring: bool) -> tuple[Plan, Configuration]:
    """A run with a network that was never trained."""
    hounsfield = IntensityProperties(
        mean=20.0, median=40.0, std=300.0, min=-1024.0, max=3071.0, percentile_00_5=-950.0, percentile_99_5=900.0
    )
    fingerprint = Fingerprint(
        spacings_mm=(PLANNED_MM,) * 100,
        shapes_after_crop=(PLANNED_SHAPE,) * 100,
        intensities=(hounsfield,),
        median_relative_size_after_crop=1.0,
    )
    labels = Labels.from_table({f"structure {value}": value for value in range(1, LABELS)})
    plan = make_plan(fingerprint, dataset="trunk", channels=["CT"], labels=labels, device="cpu")
    configuration = plan.configuration("3d")
    if patch is not None:
        topology, size = plan_topology(PLANNED_MM, patch, base_features=configuration.topology.features[0])
        configuration = replace(configuration, topology=topology, patch_size=size)
        plan = replace(plan, configurations={"3d": configuration})
    torch.manual_seed(0)
    weights = build_network(plan, configuration).state_dict()
    card = ModelCard(plan=plan, configuration="3d", fold="fold0", epoch=0, mirror_axes=(0, 1, 2) if mirroring else ())
    run = RunFolder(folder=folder)
    save_model(run.checkpoint_final, Checkpoint(card=card, weights=weights))
    write_text(run.config, "{}\n")  # its presence marks a run
    return plan, configuration


def in_own_process(*arguments: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--measure", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirroring", action="store_true")
    parser.add_argument("--patch", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--probabilities", action="store_true")
    parser.add_argument("--work", type=Path, help="folder for the scan and the mask; a temporary one by default")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, of = options.measure
        print(json.dumps(restore(int(of)) if what == "restore" else predict(Path(of), options.probabilities)))
        return
    for labels in (14, LABELS):
        print(json.dumps({"restore": in_own_process("restore", str(labels))}), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_ct(folder / "ct.nii.gz")
        _, configuration = write_model(folder / "model", options.patch, options.mirroring)
        flags = ["--probabilities"] if options.probabilities else []
        measured = in_own_process("predict", str(folder), *flags)
    print(json.dumps({"predict": {"patch_size": configuration.patch_size, "mirroring": options.mirroring, **measured}}))


if __name__ == "__main__":
    main()

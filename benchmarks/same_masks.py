"""Whether nnlite predicts what nnU-Net predicts with the same weights, voxel by voxel.

    python benchmarks/same_masks.py --python PYTHON_OF_NNUNET --data ../shared/data --out same_masks.json

nnU-Net, in a Python of its own, trains small networks on phantoms, hippocampus and sarcoma for a few steps and predicts
volumes that it has not seen, with mirroring, on the CPU (benchmarks/nnunet_models.py). nnlite imports each model and
predicts the same volumes with its defaults, with ``--exact``, and with defaults but for bfloat16 convolutions.

Columns: the largest difference of the logits of one patch; voxels whose label differs, of all, and the share of them
that nnU-Net gives to a structure; the largest difference of a probability; and, where labels differ, how far apart
nnU-Net's own two best probabilities are at most (of regions: how far from undecided the probability of the one nearest
to it is at most, from 0 to 1).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunet_plans import DATASETS, dataset, plans

from nnlite import pipeline
from nnlite.data.image import Geometry, image_suffix, read_image, write_image
from nnlite.data.phantom import draw_case
from nnlite.inference.ensemble import predict_together
from nnlite.inference.predict import Model
from nnlite.pipeline.choose_runs import choose_runs, load_models
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.restore import Region

CPU = torch.device("cpu")
TRAINING_CASES = 3
NAMES = {"2d": "2d", "3d_lowres": "3d-lowres", "3d_cascade_fullres": "3d-cascade"}  # all others are 3d
COLUMNS = "model, computed, patch logits, voxels that differ, of, inside, probabilities, closest labels, CPU seconds"
SAGITTAL = ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0))  # axes in another order, two of them reversed


@dataclass(frozen=True, slots=True)
class Compared:
    """A model, by nnU-Net's names; ``members`` are the models that an ensemble averages."""

    name: str
    dataset: str
    encoder: str
    configuration: str
    steps: int = 60
    folds: int = 1
    members: tuple[str, ...] = ()


MODELS = (
    Compared("plain 2d", "phantom", "plain", "2d"),
    Compared("plain 3d", "phantom", "plain", "3d_fullres", folds=2),
    Compared("plain 3d, thick slices", "phantom", "plain", "3d_thick"),
    Compared("plain 3d, plans of an early version", "phantom", "early", "3d_fullres"),
    Compared("residual 2d", "phantom", "residual", "2d"),
    Compared("residual 3d", "phantom", "residual", "3d_fullres"),
    Compared("low", "phantom", "plain", "3d_lowres"),
    Compared("cascade", "phantom", "plain", "3d_cascade_fullres"),
    Compared("regions 3d", "regions", "plain", "3d_fullres", steps=120),
    Compared("plain 2d + 3d", "phantom", "plain", "ensemble", members=("plain 2d", "plain 3d")),
    Compared("hippocampus 2d", "hippocampus", "plain", "2d", steps=300),
    Compared("hippocampus 3d", "hippocampus", "plain", "3d_fullres", steps=80),
    Compared("hippocampus residual 3d", "hippocampus", "residual", "3d_fullres", steps=60),
    Compared("sarcoma 3d, thick slices", "sarcoma", "plain", "3d_fullres", steps=150),
)


def main() -> None:
    """Print a row per model and way to compute and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python in which nnU-Net v2 is installed")
    parser.add_argument("--out", type=Path, required=True, help="file for all numbers")
    parser.add_argument("--data", type=Path, help="folder of hippocampus and sarcoma [default: phantoms alone]")
    parser.add_argument("--work", type=Path, help="folder for models and images [default: a temporary one]")
    parser.add_argument("--made", action="store_true", help="nnU-Net's part is in --work already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        models = [model for model in MODELS if arguments.data or model.dataset in ("phantom", "regions")]
        images = describe(work, models, arguments.data)
        if not arguments.made:
            maker = Path(__file__).with_name("nnunet_models.py")
            subprocess.run([arguments.python, maker, work], check=True)
        print(f"| {COLUMNS.replace(', ', ' | ')} |\n{'|---' * len(COLUMNS.split(', '))}|")
        rows = [row for model in models for row in compare(work, model, images[model.dataset])]
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


def describe(work: Path, models: Sequence[Compared], data: Path | None) -> dict[str, list[str]]:
    """Put images there and write what nnU-Net is to make of them; returns the images to predict by dataset."""
    drawn = phantoms(work)
    cases = {"phantom": drawn, "regions": drawn}
    if data is not None:
        cases["hippocampus"] = copied(work, data / "hippocampus", 11)
        cases["sarcoma"] = copied(work, data / "sarcoma", 4)
    described = {
        "models": [
            {
                "name": model.name,
                "plans": plans(model.dataset, model.encoder),
                "dataset": dataset(model.dataset, TRAINING_CASES),
                "configuration": model.configuration,
                "folds": model.folds,
                "steps": model.steps,
                "members": model.members,
                "first_stage": "low" if model.configuration == "3d_cascade_fullres" else None,
                "training": cases[model.dataset][:TRAINING_CASES],
                "images": cases[model.dataset][TRAINING_CASES:],
            }
            for model in models
        ]
    }
    (work / "models.json").write_text(json.dumps(described, indent=2))
    return {name: images[TRAINING_CASES:] for name, images in cases.items()}


def phantoms(work: Path) -> list[str]:
    """Draw five phantoms; the last one is stored a second time with its axes in another order."""
    names = [f"phantom_{seed}" for seed in range(5)]
    for seed, name in enumerate(names):
        case = draw_case(seed)
        z, y, x = case.hu.shape
        write_case(work, name, case.hu, case.labels, Geometry(shape=(z, y, x), spacing_mm=case.spacing_mm))
    spacing = case.spacing_mm
    turned = Geometry(shape=(x, z, y), spacing_mm=(spacing[2], spacing[0], spacing[1]), direction=SAGITTAL)
    write_case(work, "phantom_turned", case.hu.transpose(2, 0, 1), case.labels.transpose(2, 0, 1), turned)
    return [*names, "phantom_turned"]


def copied(work: Path, folder: Path, count: int) -> list[str]:
    """The first so many cases of a dataset, in nnU-Net's naming, as their files have them."""
    names = []
    for label in sorted((folder / "labelsTr").glob("*.nii.gz"))[:count]:
        name = label.name.removesuffix(".nii.gz")
        (path,) = (p for p in (folder / "imagesTr").glob(f"{name}*") if image_suffix(p))
        image, mask = (read_image(file, orientation="file") for file in (path, label))
        write_case(work, name, image.array[0], mask.array[0].astype(np.uint8), image.geometry)
        names.append(name)
    return names


def write_case(work: Path, name: str, image: np.ndarray, label: np.ndarray, geometry: Geometry) -> None:
    write_image(work / "images" / f"{name}_0000.nii.gz", image[None], geometry)
    write_image(work / "labels" / f"{name}.nii.gz", label[None], geometry)


def compare(work: Path, model: Compared, images: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Import one model and predict with it in three ways."""
    configurations = [one.configuration for one in MODELS if one.name in (model.members or (model.name,))]
    base = f"nnUNetTrainer__{model.encoder.title()}Plans__"
    needed = [*configurations, *(["3d_lowres"] if model.configuration == "3d_cascade_fullres" else [])]
    results = work / "results" / DATASETS[model.dataset]["name"]
    target = work / "models" / model.name
    if not target.exists():
        pipeline.import_nnunet([results / f"{base}{name}" for name in needed], target)
    for told, exact in (("default", False), ("--exact", True), ("bfloat16", False)):
        loaded = [
            load_models(
                choose_runs(target, work, NAMES.get(name, "3d")), device=CPU, mirroring=True, step=0.5, exact=exact
            )[0]
            for name in configurations
        ]
        if told == "bfloat16":
            loaded = [in_bfloat16(one) for one in loaded]
        row = {"model": model.name, "computed": told, "patch logits": patch_logits(work, model, loaded)}
        row |= over_images(work, work / "expected" / model.name, loaded, images)
        print("| " + " | ".join(_in_words(value) for value in row.values()) + " |", flush=True)
        yield row


def patch_logits(work: Path, model: Compared, loaded: Sequence[Model]) -> float | None:
    """Largest difference of the logits of the first fold's patch; None for an ensemble."""
    if model.members:
        return None
    stored = np.load(work / "expected" / f"{model.name}.npz")
    network, arithmetic = loaded[0].networks[0], loaded[0].arithmetic
    dtype = arithmetic.autocast_dtype
    with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        logits = network(torch.from_numpy(stored["patch"])).float()
    return float(np.abs(logits.numpy() - stored["logits"]).max())


def in_bfloat16(model: Model) -> Model:
    """The same model with lower precision in its convolutions, as nnlite's own models have it on such a CPU."""
    previous = None if model.previous is None else in_bfloat16(model.previous)
    return replace(model, arithmetic=replace(model.arithmetic, autocast_dtype=torch.bfloat16), previous=previous)


def over_images(work: Path, expected: Path, models: Sequence[Model], images: Sequence[str]) -> dict[str, Any]:
    """Differences to nnU-Net's masks and probabilities, over all images."""
    voxels = differing = inside = 0
    probabilities = closest = 0.0
    started = time.process_time()
    for name in images:
        mask = read_image(expected / f"{name}.nii.gz", orientation="file").array[0]
        theirs = np.load(expected / f"{name}.npz")["probabilities"].astype(np.float32)
        ours = np.empty_like(theirs)
        ours[:] = np.reshape(Decision.by(models[0].plan.labels).of_nothing, (-1, 1, 1, 1))  # outside of the cropped box

        def keep(region: Region, values: np.ndarray, ours: np.ndarray = ours) -> None:
            ours[(slice(None), *region)] = values

        image = read_image(work / "images" / f"{name}_0000.nii.gz", orientation=models[0].arithmetic.orientation)
        prediction = predict_together(models, name, image, keep_probabilities=keep)
        probabilities = max(probabilities, float(np.abs(ours - theirs).max()))
        differs = prediction.indices != mask
        voxels += mask.size
        differing += int(differs.sum())
        inside += int(np.count_nonzero(mask))
        if differs.any():
            closest = max(closest, float(_certainty(theirs[:, differs], models[0]).max()))
    return {
        "voxels that differ": differing,
        "of": voxels,
        "inside": inside / voxels,
        "probabilities": probabilities,
        "closest labels": closest,
        "CPU seconds": time.process_time() - started,
    }


def _certainty(probabilities: np.ndarray, model: Model) -> np.ndarray:
    """How far labels are from a tie at voxels with these probabilities (channels, n)."""
    if model.plan.labels.regions:
        return np.abs(2 * probabilities - 1).min(axis=0)
    best = np.sort(probabilities, axis=0)
    return best[-1] - best[-2]


def _in_words(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()

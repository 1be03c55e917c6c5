"""Whether nnlite predicts what nnU-Net predicts with the same weights, voxel by voxel.

    python benchmarks/same_masks.py --python PYTHON_OF_NNUNET --out same_masks.json

nnU-Net, in a Python of its own, trains small networks on phantoms for a few steps and predicts two volumes that it has
not seen, with mirroring, on the CPU (benchmarks/nnunet_models.py). nnlite imports each model and predicts the same
volumes, once with its defaults and once with the network in float32 as nnU-Net has it on a CPU.

Columns: the largest difference of the logits of one patch; voxels whose label differs; the largest difference of a
probability; and, where labels differ, how far apart nnU-Net's own two best probabilities are at most.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnlite import pipeline
from nnlite.data.image import Geometry, read_image, write_image
from nnlite.data.phantom import LABELS, draw_case
from nnlite.inference.predict import Model, predict_image
from nnlite.pipeline.load_model import load
from nnlite.preprocessing.restore import Region
from nnlite.workspace import Workspace

DATASET = "Dataset900_Phantom"
TRAINING = ("train_0", "train_1", "train_2")
IMAGES = ("test_0", "test_1")
CONVOLUTION = {2: "torch.nn.modules.conv.Conv2d", 3: "torch.nn.modules.conv.Conv3d"}
NORMALIZATION = {2: "torch.nn.modules.instancenorm.InstanceNorm2d", 3: "torch.nn.modules.instancenorm.InstanceNorm3d"}
COLUMNS = "model, network, patch logits, voxels that differ, of, share, probabilities, closest labels"


def main() -> None:
    """Print a row per model and network and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python in which nnU-Net v2 is installed")
    parser.add_argument("--out", type=Path, required=True, help="file for all numbers")
    parser.add_argument("--work", type=Path, help="folder for models and images [default: a temporary one]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        models = describe(work)
        maker = Path(__file__).with_name("nnunet_models.py")
        subprocess.run([arguments.python, maker, work], check=True)
        print(f"| {COLUMNS.replace(', ', ' | ')} |\n{'|---' * len(COLUMNS.split(', '))}|")
        rows = [row for model in models if model["compared"] for row in compare(work, model)]
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


def describe(work: Path) -> list[dict[str, Any]]:
    """Draw the phantoms and write what nnU-Net is to make of them; returns the models."""
    for seed, name in enumerate((*TRAINING, *IMAGES)):
        case = draw_case(seed)
        z, y, x = case.hu.shape
        geometry = Geometry(shape=(z, y, x), spacing_mm=case.spacing_mm)
        write_image(work / "images" / f"{name}_0000.nii.gz", case.hu[None], geometry)
        write_image(work / "labels" / f"{name}.nii.gz", case.labels[None], geometry)
    made = (  # name, plans, configuration, folds
        ("plain 2d", "plain", "2d", 1),
        ("plain 3d", "plain", "3d_fullres", 2),
        ("plain 3d, thick slices", "plain", "3d_thick", 1),
        ("plain 3d, plans of an early version", "early", "3d_fullres", 1),
        ("residual 2d", "residual", "2d", 1),
        ("residual 3d", "residual", "3d_fullres", 1),
        ("low", "plain", "3d_lowres", 1),
        ("cascade", "plain", "3d_cascade_fullres", 1),
    )
    models = [
        {
            "name": name,
            "plans": plans,
            "configuration": configuration,
            "folds": folds,
            "training": TRAINING,
            "images": IMAGES,
            "compared": True,
        }
        for name, plans, configuration, folds in made
    ]
    described = {
        "models": models,
        "plans": {"plain": plans("plain"), "residual": plans("residual"), "early": early(plans("plain"))},
        "dataset": {
            "channel_names": {"0": "CT"},
            "labels": LABELS,
            "numTraining": len(TRAINING),
            "file_ending": ".nii.gz",
        },
    }
    (work / "models.json").write_text(json.dumps(described, indent=2))
    return models


def plans(encoder: str) -> dict[str, Any]:
    """nnU-Net's plans with narrow networks; the transposes of the phantom's axes are kept as they are."""
    full, low, thick = (7.0, 3.2, 3.2), (9.0, 6.0, 6.0), (8.0, 2.4, 2.4)
    return {
        "dataset_name": DATASET,
        "plans_name": f"{encoder.title()}Plans",
        "original_median_spacing_after_transp": full,
        "original_median_shape_after_transp": (21, 72, 100),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": (0, 1, 2),
        "transpose_backward": (0, 1, 2),
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "mean": 120.0,
                "median": 115.0,
                "std": 60.0,
                "min": -150.0,
                "max": 330.0,
                "percentile_00_5": -20.0,
                "percentile_99_5": 290.0,
            }
        },
        "configurations": {
            "2d": settings(encoder, full[1:], (48, 64)),
            "3d_fullres": settings(encoder, full, (12, 40, 48)),
            "3d_thick": settings(encoder, thick, (12, 40, 48)),
            "3d_lowres": {**settings(encoder, low, (12, 32, 40)), "next_stage": "3d_cascade_fullres"},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }


def settings(encoder: str, spacing_mm: tuple[float, ...], patch: tuple[int, ...]) -> dict[str, Any]:
    """One configuration as nnU-Net's planner writes it, of three stages."""
    ndim = len(patch)
    pooled = (1, 2, 2)[-ndim:]
    blocks = {"n_conv_per_stage": [2, 2, 2]} if encoder == "plain" else {"n_blocks_per_stage": [1, 2, 2]}
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    return {
        "data_identifier": f"{encoder}_{ndim}d_{spacing_mm[0]}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "median_image_size_in_voxels": [21, 72, 100][-ndim:],
        "spacing": spacing_mm,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg_kwargs": {**resampling, "order": 1, "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet."
            + ("PlainConvUNet" if encoder == "plain" else "ResidualEncoderUNet"),
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [8, 16, 32],
                "conv_op": CONVOLUTION[ndim],
                "kernel_sizes": [(1, 3, 3)[-ndim:], *[(3,) * ndim] * 2],
                "strides": [(1,) * ndim, pooled, (2,) * ndim],
                **blocks,
                "n_conv_per_stage_decoder": [2, 2] if encoder == "plain" else [1, 1],
                "conv_bias": True,
                "norm_op": NORMALIZATION[ndim],
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }


def early(plans: dict[str, Any]) -> dict[str, Any]:
    """The same plans with the keys that early versions of nnU-Net v2 wrote."""
    configurations = {}
    for name, one in plans["configurations"].items():
        if "architecture" in one:
            kwargs = one["architecture"]["arch_kwargs"]
            network = {
                "UNet_class_name": "PlainConvUNet",
                "UNet_base_num_features": 8,
                "unet_max_num_features": 32,
                "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
                "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
                "num_pool_per_axis": [2] * len(one["patch_size"]),
                "pool_op_kernel_sizes": kwargs["strides"],
                "conv_kernel_sizes": kwargs["kernel_sizes"],
            }
            one = {key: value for key, value in one.items() if key != "architecture"} | network
        configurations[name] = one
    return {**plans, "plans_name": "EarlyPlans", "configurations": configurations}


def compare(work: Path, model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Import one model and predict with it, with nnlite's defaults and in float32."""
    expected = work / "expected" / model["name"]
    results = work / "results" / DATASET
    named = f"nnUNetTrainer__{model['plans'].title()}Plans__"
    folders = [results / f"{named}{model['configuration']}"]
    if model["configuration"] == "3d_cascade_fullres":
        folders.append(results / f"{named}3d_lowres")
    imported = pipeline.import_nnunet(folders, work / "models" / model["name"])
    name = next(iter(imported.folds))
    workspace = Workspace(root=imported.folder.parent, dataset=imported.folder.name)
    network = as_loaded(workspace, name, imported.folds)
    for told, tried in (("default", network), ("float32", in_float32(network))):
        stored = np.load(expected / "patch.npz")
        logits = tried.mean_logits(torch.from_numpy(stored["patch"])) if model["folds"] == 1 else None
        patch_logits = None if logits is None else float(np.abs(logits.detach().numpy() - stored["logits"]).max())
        row = {"model": model["name"], "network": told, "patch logits": patch_logits}
        row |= over_images(work, expected, tried)
        print(
            "| " + " | ".join(f"{v:.2e}" if isinstance(v, float) else str(v) for v in row.values()) + " |", flush=True
        )
        yield row


def as_loaded(workspace: Workspace, name: str, folds: dict[str, tuple[str, ...]]) -> Model:
    """The model as ``nnlite predict`` loads it."""
    model = load([workspace.run(name, fold).checkpoint_final for fold in folds[name]], device=torch.device("cpu"))
    stage = model.configuration.previous_stage
    return model if stage is None else replace(model, previous=as_loaded(workspace, stage, folds))


def in_float32(model: Model) -> Model:
    """The same model without lower precision in its convolutions."""
    previous = None if model.previous is None else in_float32(model.previous)
    return replace(model, autocast_dtype=None, previous=previous)


def over_images(work: Path, expected: Path, model: Model) -> dict[str, Any]:
    """Differences to nnU-Net's masks and probabilities, over all images."""
    voxels = differing = 0
    probabilities = closest = 0.0
    for name in IMAGES:
        mask = read_image(expected / f"{name}.nii.gz").array[0]
        theirs = np.load(expected / f"{name}.npz")["probabilities"].astype(np.float32)
        ours = np.zeros_like(theirs)
        ours[0] = 1  # outside of the box that preprocessing crops to, background is certain

        def keep(region: Region, values: np.ndarray, ours: np.ndarray = ours) -> None:
            ours[(slice(None), *region)] = values

        image = read_image(work / "images" / f"{name}_0000.nii.gz")
        prediction = predict_image(model, name, image, keep_probabilities=keep)
        probabilities = max(probabilities, float(np.abs(ours - theirs).max()))
        differs = prediction.indices != mask
        voxels += mask.size
        differing += int(differs.sum())
        if differs.any():
            best = np.sort(theirs[:, differs], axis=0)
            closest = max(closest, float((best[-1] - best[-2]).max()))
    return {
        "voxels that differ": differing,
        "of": voxels,
        "share": differing / voxels,
        "probabilities": probabilities,
        "closest labels": closest,
    }


if __name__ == "__main__":
    main()

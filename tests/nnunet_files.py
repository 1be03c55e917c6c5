"""Result folders as nnU-Net v2 leaves them, written without nnU-Net: plans, weights under its names, images to predict.

``logits`` computes the network from those names with plain torch functions, so that a weight in the wrong place shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nnlite.data.image import Geometry, write_image

LABELS = {"background": 0, "ball": 1, "core": 2}
FEATURES = (4, 6, 8)
RESAMPLING = {"is_seg": False, "order_z": 0, "force_separate_z": None}
STATISTICS = {
    "mean": 120.0,
    "median": 110.0,
    "std": 50.0,
    "min": 50.0,
    "max": 250.0,
    "percentile_00_5": 60.0,
    "percentile_99_5": 240.0,
}


def settings(encoder: str = "plain", ndim: int = 3) -> dict[str, Any]:
    """One configuration of three stages, the first with flat kernels and pooling in 3D."""
    blocks = {"n_conv_per_stage": [2, 1, 2]} if encoder == "plain" else {"n_blocks_per_stage": [1, 2, 2]}
    return {
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 16, 16][-ndim:],
        "median_image_size_in_voxels": [16.0, 20.0, 18.0][-ndim:],
        "spacing": [2.0, 1.5, 1.5][-ndim:],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**RESAMPLING, "order": 3},
        "resampling_fn_seg_kwargs": {**RESAMPLING, "order": 1, "is_seg": True},
        "resampling_fn_probabilities_kwargs": {**RESAMPLING, "order": 1},
        "batch_dice": True,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet."
            + {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}[encoder],
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": list(FEATURES),
                "conv_op": f"torch.nn.modules.conv.Conv{ndim}d",
                "kernel_sizes": [[1, 3, 3][-ndim:], [3] * ndim, [3] * ndim],
                "strides": [[1] * ndim, [1, 2, 2][-ndim:], [2] * ndim],
                **blocks,
                "n_conv_per_stage_decoder": [2, 1],  # from the lowest resolution up
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{ndim}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }


def plans(encoder: str = "plain") -> dict[str, Any]:
    """plans.json with all four configurations."""
    return {
        "dataset_name": "Dataset007_Balls",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": dict(STATISTICS)},
        "configurations": {
            "2d": settings(encoder, 2),
            "3d_lowres": {**settings(encoder), "spacing": [3.0, 3.0, 3.0], "next_stage": "3d_cascade_fullres"},
            "3d_fullres": settings(encoder),
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }


def dataset() -> dict[str, Any]:
    """dataset.json."""
    return {"channel_names": {"0": "MR"}, "labels": dict(LABELS), "numTraining": 5, "file_ending": ".nii.gz"}


def early(configuration: dict[str, Any]) -> dict[str, Any]:
    """A plain configuration with the keys of nnU-Net's early 2.x versions."""
    kwargs = configuration["architecture"]["arch_kwargs"]
    return {key: value for key, value in configuration.items() if key != "architecture"} | {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": kwargs["strides"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
    }


def weights(configuration: dict[str, Any], *, channels: int = 1, labels: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under nnU-Net's names, with the duplicates that its modules bring."""
    kwargs = configuration["architecture"]["arch_kwargs"]
    rng = np.random.RandomState(seed)  # numpy promises that its numbers stay; expected masks are stored
    state: dict[str, Tensor] = {}

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    def layer(name: str, inputs: int, outputs: int, kernel: list[int], *, bias: bool = True) -> None:
        parts = {"conv.weight": normal(outputs, inputs, *kernel) / float(np.sqrt(inputs * np.prod(kernel)))}
        parts |= {"conv.bias": normal(outputs)} if bias else {}
        parts |= {"norm.weight": 1 + normal(outputs).abs() / 2, "norm.bias": normal(outputs) / 5}
        for part, tensor in parts.items():
            state[f"{name}.{part}"] = tensor
            kind, _, parameter = part.partition(".")
            state[f"{name}.all_modules.{('conv', 'norm').index(kind)}.{parameter}"] = tensor

    kernels, features = kwargs["kernel_sizes"], kwargs["features_per_stage"]
    residual = "n_blocks_per_stage" in kwargs
    width = channels
    if residual:
        layer("encoder.stem.convs.0", channels, features[0], kernels[0])
        width = features[0]
    for stage, count in enumerate(kwargs["n_blocks_per_stage" if residual else "n_conv_per_stage"]):
        for block in range(count):
            outputs = features[stage]
            if residual:
                name = f"encoder.stages.{stage}.blocks.{block}"
                layer(f"{name}.conv1", width, outputs, kernels[stage])
                layer(f"{name}.conv2", outputs, outputs, kernels[stage])
                if width != outputs:  # behind the pooling, where there is one
                    place = int(max(kwargs["strides"][stage]) > 1)
                    layer(f"{name}.skip.{place}", width, outputs, [1] * len(kernels[0]), bias=False)
            else:
                layer(f"encoder.stages.{stage}.0.convs.{block}", width, outputs, kernels[stage])
            width = outputs
    state |= {f"decoder.encoder.{name.removeprefix('encoder.')}": tensor for name, tensor in state.items()}
    for level, count in enumerate(kwargs["n_conv_per_stage_decoder"]):
        stage = len(features) - 2 - level
        below, here, stride = features[stage + 1], features[stage], kwargs["strides"][stage + 1]
        state[f"decoder.transpconvs.{level}.weight"] = normal(below, here, *stride) / float(np.sqrt(below))
        state[f"decoder.transpconvs.{level}.bias"] = normal(here)
        for block in range(count):
            layer(f"decoder.stages.{level}.convs.{block}", here if block else 2 * here, here, kernels[stage])
        head = normal(labels, here, *[1] * len(stride))
        state[f"decoder.seg_layers.{level}.weight"] = head - head.mean(dim=1, keepdim=True)  # no label wins everywhere
        state[f"decoder.seg_layers.{level}.bias"] = normal(labels) / 10
    return state


def logits(configuration: dict[str, Any], state: dict[str, Tensor], x: Tensor) -> Tensor:
    """What nnU-Net's network answers to a batch, from weights under its names."""
    kwargs = configuration["architecture"]["arch_kwargs"]
    ndim = len(configuration["patch_size"])
    convolve = {2: functional.conv2d, 3: functional.conv3d}[ndim]
    transposed = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}[ndim]
    pool = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[ndim]

    def layer(name: str, x: Tensor, stride: Any = 1, *, active: bool = True) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        padding = [(size - 1) // 2 for size in weight.shape[2:]]
        x = convolve(x, weight, state.get(f"{name}.conv.bias"), stride, padding)
        x = functional.instance_norm(x, weight=state[f"{name}.norm.weight"], bias=state[f"{name}.norm.bias"], eps=1e-5)
        return functional.leaky_relu(x, 0.01) if active else x

    residual = "n_blocks_per_stage" in kwargs
    if residual:
        x = layer("encoder.stem.convs.0", x)
    skips = []
    for stage, count in enumerate(kwargs["n_blocks_per_stage" if residual else "n_conv_per_stage"]):
        for block in range(count):
            stride = kwargs["strides"][stage] if block == 0 else [1] * ndim
            if not residual:
                x = layer(f"encoder.stages.{stage}.0.convs.{block}", x, stride)
                continue
            name = f"encoder.stages.{stage}.blocks.{block}"
            skip = pool(x, stride, stride)
            (projection,) = {
                n.rpartition(".conv.")[0] for n in state if n.startswith(f"{name}.skip.") and ".conv." in n
            } or {""}
            skip = layer(projection, skip, active=False) if projection else skip
            x = layer(f"{name}.conv2", layer(f"{name}.conv1", x, stride), active=False) + skip
            x = functional.leaky_relu(x, 0.01)
        skips.append(x)
    for level, count in enumerate(kwargs["n_conv_per_stage_decoder"]):
        stride = kwargs["strides"][len(skips) - 1 - level]
        up = f"decoder.transpconvs.{level}"
        x = transposed(x, state[f"{up}.weight"], state[f"{up}.bias"], stride)
        x = torch.cat([x, skips[-2 - level]], dim=1)
        for block in range(count):
            x = layer(f"decoder.stages.{level}.convs.{block}", x)
    head = f"decoder.seg_layers.{len(skips) - 2}"
    return convolve(x, state[f"{head}.weight"], state[f"{head}.bias"])


def checkpoint(configuration: str, state: dict[str, Tensor]) -> dict[str, Any]:
    """A checkpoint's content, with logs in the types in which nnU-Net writes them."""
    return {
        "network_weights": state,
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(1.5)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 12,
        "init_args": {"configuration": configuration, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }


def write_result(
    parent: Path,
    configuration: str = "3d_fullres",
    *,
    encoder: str = "plain",
    folds: tuple[str, ...] = ("0",),
    channels: int = 1,
    name: str = "checkpoint_final.pth",
) -> Path:
    """A result folder with one checkpoint per fold, each of another seed."""
    content = plans(encoder)
    folder = parent / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(content))
    (folder / "dataset.json").write_text(json.dumps(dataset()))
    base = content["configurations"]["3d_fullres" if "cascade" in configuration else configuration]
    for seed, fold in enumerate(folds):
        (folder / f"fold_{fold}").mkdir()
        state = weights(base, channels=channels, seed=seed)
        torch.save(checkpoint(configuration, state), folder / f"fold_{fold}" / name)
    return folder


def write_images(folder: Path) -> tuple[str, ...]:
    """Two images of bright balls in noise, and their names; one has thick slices, one is stored sagittally."""
    shapes = {"thick": (10, 34, 30), "turned": (26, 19, 31)}
    spacings = {"thick": (7.0, 1.1, 1.3), "turned": (1.2, 2.6, 1.7)}
    sagittal = ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    straight = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    for seed, (name, shape) in enumerate(shapes.items()):
        rng = np.random.RandomState(seed)
        voxels = np.moveaxis(np.indices(shape), 0, -1) * spacings[name]
        far = np.linalg.norm(voxels - np.multiply(shape, spacings[name]) / 2, axis=-1)
        image = 100 + 60 * (far < 12) + 60 * (far < 7) + rng.normal(0, 15, shape)
        image[-2:] = 0  # to be cropped
        geometry = Geometry(
            shape=shape, spacing_mm=spacings[name], direction=sagittal if name == "turned" else straight
        )
        write_image(folder / f"{name}_0000.nii.gz", np.rint(image)[None].astype(np.int16), geometry)
    return tuple(shapes)


def write_stored_models(parent: Path) -> dict[str, Path]:
    """The models whose masks are stored: two folds, a residual 2D one, and a cascade behind its first stage."""
    return {
        "folds": write_result(parent / "folds", folds=("0", "1")),
        "flat": write_result(parent / "flat", "2d", encoder="residual"),
        "low": write_result(parent / "cascade", "3d_lowres"),
        "cascade": write_result(parent / "cascade", "3d_cascade_fullres", channels=3),
    }

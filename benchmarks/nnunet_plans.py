"""Small plans of nnU-Net's own format for benchmarks/same_masks.py: narrow networks that are trained in seconds."""

from __future__ import annotations

from typing import Any

DATASETS: dict[str, dict[str, Any]] = {  # name in nnU-Net, and what differs between their plans
    "phantom": {
        "name": "Dataset900_Phantom",
        "channel": "CT",
        "labels": {"background": 0, "liver": 1, "spleen": 2, "kidneys": 3, "spine": 4, "lesion": 5},
        "scheme": "CTNormalization",
        "2d": ((3.2, 3.2), (48, 64)),
        "3d_fullres": ((7.0, 3.2, 3.2), (12, 40, 48)),
        "3d_thick": ((8.0, 2.4, 2.4), (12, 40, 48)),
        "3d_lowres": ((9.0, 6.0, 6.0), (12, 32, 40)),
    },
    "regions": {  # the same phantoms, learned as sets of labels that overlap
        "name": "Dataset904_Regions",
        "channel": "CT",
        "labels": {
            "background": 0,
            "organs": [1, 2, 3, 5],
            "liver": [1, 5],
            "kidneys": 3,
            "spine": 4,
            "lesion": 5,
        },
        "regions_class_order": [2, 1, 3, 4, 5],
        "scheme": "CTNormalization",
        "3d_fullres": ((7.0, 3.2, 3.2), (12, 40, 48)),
    },
    "hippocampus": {
        "name": "Dataset901_Hippocampus",
        "channel": "MR",
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "scheme": "ZScoreNormalization",
        "2d": ((1.0, 1.0), (56, 40)),
        "3d_fullres": ((1.0, 1.0, 1.0), (40, 56, 40)),
    },
    "sarcoma": {  # voxels of 3.27 x 0.98 x 0.98 mm: slices are resampled one by one
        "name": "Dataset902_Sarcoma",
        "channel": "CT",
        "labels": {"background": 0, "tumour": 1},
        "scheme": "CTNormalization",
        "3d_fullres": ((6.5, 4.0, 4.0), (16, 64, 64)),
    },
    "trunk": {  # phantoms with labels that nobody ever sees, for the cost of many
        "name": "Dataset903_Trunk",
        "channel": "CT",
        "labels": {
            "background": 0,
            "liver": 1,
            "spleen": 2,
            "kidneys": 3,
            "spine": 4,
            "lesion": 5,
            **{f"structure_{value}": value for value in range(6, 14)},
        },
        "scheme": "CTNormalization",
        "3d_fullres": ((2.5, 1.6, 1.6), (40, 96, 96)),
    },
}
CONVOLUTION = {2: "torch.nn.modules.conv.Conv2d", 3: "torch.nn.modules.conv.Conv3d"}
NORMALIZATION = {2: "torch.nn.modules.instancenorm.InstanceNorm2d", 3: "torch.nn.modules.instancenorm.InstanceNorm3d"}
CONFIGURATIONS = ("2d", "3d_fullres", "3d_thick", "3d_lowres")


def dataset(name: str, cases: int) -> dict[str, Any]:
    """dataset.json of one of ``DATASETS``."""
    one = DATASETS[name]
    return {
        "channel_names": {"0": one["channel"]},
        "labels": one["labels"],
        **({"regions_class_order": one["regions_class_order"]} if "regions_class_order" in one else {}),
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }


def plans(name: str, encoder: str, features: int = 8) -> dict[str, Any]:
    """nnU-Net's plans with small networks; ``encoder`` is plain, residual, or early: plain, with keys of old plans."""
    one = DATASETS[name]
    kind = "residual" if encoder == "residual" else "plain"
    configurations = {key: settings(kind, features, one["scheme"], *one[key]) for key in CONFIGURATIONS if key in one}
    if "3d_lowres" in configurations:
        configurations["3d_lowres"]["next_stage"] = "3d_cascade_fullres"
        configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    made = {
        "dataset_name": one["name"],
        "plans_name": f"{encoder.title()}Plans",
        "original_median_spacing_after_transp": one["3d_fullres"][0],
        "original_median_shape_after_transp": one["3d_fullres"][1],
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
        "configurations": configurations,
    }
    return early(made) if encoder == "early" else made


def settings(
    encoder: str, features: int, scheme: str, spacing_mm: tuple[float, ...], patch: tuple[int, ...]
) -> dict[str, Any]:
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
        "median_image_size_in_voxels": patch,
        "spacing": spacing_mm,
        "normalization_schemes": [scheme],
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
                "features_per_stage": [features, 2 * features, 4 * features],
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
    return {**plans, "configurations": configurations}

"""The network that nnU-Net's plans describe, as a ``Topology``.

Numbers in, numbers out; the weights come later. nnU-Net names a class of the package dynamic_network_architectures and
its arguments; plans of early versions hold a few numbers instead, from which nnU-Net derives the same arguments. What
nnlite's U-Net has no counterpart for is refused by name: a network that is almost the same gives masks that are almost
right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnlite.errors import PlanError
from nnlite.networks.blocks import NEGATIVE_SLOPE, NORM_EPSILON
from nnlite.planning.topology import MOST_BLOCKS, Architecture, Topology

PACKAGE = "dynamic_network_architectures."
ARCHITECTURES: Mapping[str, Architecture] = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "resenc"}
BLOCKS_KEY: Mapping[Architecture, str] = {"unet": "n_conv_per_stage", "resenc": "n_blocks_per_stage"}


def topology_from_nnunet(settings: Mapping[str, Any], name: str) -> Topology:
    """The U-Net of one configuration of nnU-Net's plans, inheritance resolved; ``name`` is for messages.

    PlanError names the first thing that nnlite's U-Net cannot represent.
    """
    class_name, arguments = _architecture(settings, name)
    architecture = ARCHITECTURES[class_name]
    ndim = len(settings["patch_size"])
    arguments = dict(arguments)
    stages = int(arguments.pop("n_stages"))
    if not 1 <= stages <= MOST_BLOCKS:
        raise PlanError(f"{name}: a network of {stages} stages; these plans are damaged")
    features = _per_stage(arguments.pop("features_per_stage"), stages)
    topology = Topology(
        strides=_per_axis(arguments.pop("strides"), stages, ndim),
        kernels=_per_axis(arguments.pop("kernel_sizes"), stages, ndim),
        features=features,
        architecture=architecture,
        encoder_blocks=_per_stage(arguments.pop(BLOCKS_KEY[architecture]), stages),
        decoder_convolutions=_per_stage(arguments.pop("n_conv_per_stage_decoder"), stages - 1)[::-1],
    )
    _require_same_layers(arguments, ndim=ndim, stem=features[0], name=name)
    return topology


def _architecture(settings: Mapping[str, Any], name: str) -> tuple[str, Mapping[str, Any]]:
    """The short name of the network's class, and its arguments, in any of the ways nnU-Net has written them."""
    if "architecture" in settings:
        path, arguments = settings["architecture"]["network_class_name"], settings["architecture"]["arch_kwargs"]
    elif "network_arch_init_kwargs" in settings:
        path, arguments = settings["network_arch_class_name"], settings["network_arch_init_kwargs"]
    else:
        path, arguments = _derived_architecture(settings, name)
    module, _, class_name = str(path).rpartition(".")
    if class_name not in ARCHITECTURES or not f"{module or PACKAGE}.".startswith(PACKAGE):
        raise PlanError(
            f"{name}: nnlite has no network {path}; it can take over {' and '.join(ARCHITECTURES)} of {PACKAGE[:-1]}"
        )
    return class_name, arguments


def _derived_architecture(settings: Mapping[str, Any], name: str) -> tuple[str, Mapping[str, Any]]:
    """What nnU-Net makes of the plans of its early versions, which hold widths and depths only."""
    named = {str(settings[key]) for key in ("UNet_class_name", "network_arch_class_name") if key in settings}
    if len(named) != 1:
        raise PlanError(
            f"{name}: the plans name {'two networks, ' + ' and '.join(sorted(named)) if named else 'no network'}; "
            'they should hold one, under "architecture" or "UNet_class_name"'
        )
    (path,) = named
    blocks = settings["n_conv_per_stage_encoder"]
    first, most = settings["UNet_base_num_features"], settings["unet_max_num_features"]
    architecture = ARCHITECTURES.get(path.rpartition(".")[2], "unet")
    return path, {
        "n_stages": len(blocks),
        "features_per_stage": [min(first * 2**stage, most) for stage in range(len(blocks))],
        "kernel_sizes": settings["conv_kernel_sizes"],
        "strides": settings["pool_op_kernel_sizes"],
        BLOCKS_KEY[architecture]: blocks,
        "n_conv_per_stage_decoder": settings["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op_kwargs": {"eps": NORM_EPSILON, "affine": True},
        "nonlin": "LeakyReLU",
        "conv_op": f"Conv{len(settings['patch_size'])}d",
        "norm_op": f"InstanceNorm{len(settings['patch_size'])}d",
    }


def _require_same_layers(arguments: Mapping[str, Any], *, ndim: int, stem: int, name: str) -> None:
    """PlanError unless all other arguments of the network say what nnlite's blocks do anyway."""
    given: dict[str, Any] = {
        "conv_bias": False,  # where the plans are silent, these are the classes' own defaults
        "norm_op": None,
        "nonlin": None,
        "norm_op_kwargs": None,
        "nonlin_kwargs": None,
        "dropout_op": None,
        **arguments,
    }
    normalization = {"eps": 1e-5, "affine": False, **(given["norm_op_kwargs"] or {})}  # torch's defaults
    activation = {"negative_slope": 0.01, **(given["nonlin_kwargs"] or {})}
    activation.pop("inplace", None)
    found = {
        "conv_op": _class_name(given.get("conv_op")),
        "conv_bias": given["conv_bias"],
        "norm_op": _class_name(given["norm_op"]),
        "norm_op_kwargs": normalization,
        "nonlin": _class_name(given["nonlin"]),
        "nonlin_kwargs": activation,
        "dropout_op": given["dropout_op"],
        "nonlin_first": given.get("nonlin_first", False),
        "block": _class_name(given.get("block", "BasicBlockD")),
        "bottleneck_channels": given.get("bottleneck_channels"),
        "stem_channels": given.get("stem_channels") or stem,
    }
    needed = {
        "conv_op": f"Conv{ndim}d",
        "conv_bias": True,
        "norm_op": f"InstanceNorm{ndim}d",
        "norm_op_kwargs": {"eps": NORM_EPSILON, "affine": True},
        "nonlin": "LeakyReLU",
        "nonlin_kwargs": {"negative_slope": NEGATIVE_SLOPE},
        "dropout_op": None,
        "nonlin_first": False,
        "block": "BasicBlockD",
        "bottleneck_channels": None,
        "stem_channels": stem,
    }
    ignored = {"deep_supervision", "dropout_op_kwargs"}  # no part of a prediction
    unknown = sorted(given.keys() - needed.keys() - ignored)
    faults = [f"{key} {found[key]!r} (here it is {needed[key]!r})" for key in needed if found[key] != needed[key]]
    if faults or unknown:
        raise PlanError(f"{name}: nnlite's network has no {', no '.join([*faults, *unknown])}")


def _class_name(path: Any) -> Any:
    return path.rpartition(".")[2] if isinstance(path, str) else path


def _per_stage(numbers: int | Sequence[int], stages: int) -> tuple[int, ...]:
    if isinstance(numbers, int):
        return (numbers,) * stages
    if len(numbers) != stages:
        raise PlanError(f"{len(numbers)} numbers ({', '.join(map(str, numbers[:stages]))}) for {stages} stages")
    return tuple(int(number) for number in numbers)


def _per_axis(numbers: int | Sequence[int | Sequence[int]], stages: int, ndim: int) -> tuple[tuple[int, ...], ...]:
    if isinstance(numbers, int):
        return ((numbers,) * ndim,) * stages
    return tuple((axes,) * ndim if isinstance(axes, int) else tuple(int(n) for n in axes) for axes in numbers)

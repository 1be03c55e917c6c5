"""The weights in an nnU-Net v2 checkpoint, under nnlite's names.

A checkpoint is a pickle, which can run code when it is opened. Here only tensors, plain containers and the few harmless
types that nnU-Net keeps in its logs are let through (``weights_only``); any other type is refused before it is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from nnlite.errors import CheckpointError
from nnlite.networks.build import weight_shapes
from nnlite.planning.planner import Configuration, Plan
from nnlite.training.torch_archive import require_held, require_stored

LOGGED_KINDS = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)
# nnU-Net logs losses and Dice as numpy numbers; what makes them has one name in numpy 1 and another in numpy 2
HARMLESS_TYPES: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in LOGGED_KINDS),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
NEEDED = ("network_weights", "init_args", "trainer_name")
LISTED_WEIGHTS = 3  # of many, in a message

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # left by parallel training and by torch.compile
DUPLICATES = re.compile(r"\.all_modules\.|^decoder\.encoder\.")  # the same tensors again, under a second name
PLACES = {"conv": 0, "norm": 1}  # within nnlite's blocks
NAMES = (  # nnU-Net's, and nnlite's without what follows from "conv" or "norm"
    (r"encoder\.stem\.convs\.0\.(?P<part>\w+)", r"stem"),
    (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(?P<part>\w+)", r"encoder.\1.\2"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.(?P<part>\w+)", r"encoder.\1.\2.first"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2\.(?P<part>\w+)", r"encoder.\1.\2.second"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.(?P<first>\d+)\.(?P<part>\w+)", r"encoder.\1.\2.skip"),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.(?P<part>\w+)", r"decoder.\1.\2"),
    (r"decoder\.transpconvs\.(\d+)", r"upsample.\1"),
    (r"decoder\.seg_layers\.(\d+)", r"heads.\1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NnunetCheckpoint:
    """What prediction needs of a checkpoint: float32 ``weights`` and the ``configuration``, under nnU-Net's names."""

    weights: dict[str, Tensor]
    configuration: str
    trainer: str
    epoch: int
    mirror_axes: tuple[int, ...]


def read_checkpoint(path: Path) -> NnunetCheckpoint:
    """Read ``checkpoint_final.pth`` or ``checkpoint_best.pth``; CheckpointError when it cannot be opened safely."""
    try:
        require_stored(path)
        with safe_globals(HARMLESS_TYPES):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # the optimiser is not read
        require_held(content)
    except Exception as error:  # a damaged file fails in many ways, each with an error of its own
        raise CheckpointError(_refusal(path, error)) from error
    if not isinstance(content, dict) or (missing := [key for key in NEEDED if key not in content]):
        what = f"it has no {', '.join(missing)}" if isinstance(content, dict) else "it holds no table"
        raise CheckpointError(f"{path} is no checkpoint of nnU-Net v2: {what}")
    try:
        return NnunetCheckpoint(
            weights={str(name): tensor.float() for name, tensor in content["network_weights"].items()},
            configuration=str(content["init_args"]["configuration"]),
            trainer=str(content["trainer_name"]),
            epoch=int(content.get("current_epoch", 0)),
            mirror_axes=tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise CheckpointError(f"{path} is no checkpoint of nnU-Net v2: {problem!r}") from problem


def nnlite_weights(
    checkpoint: NnunetCheckpoint, plan: Plan, configuration: Configuration, path: Path
) -> dict[str, Tensor]:
    """The weights by the names of the network that nnlite builds for ``configuration``, all of them and of its shapes.

    CheckpointError, naming ``path``, when the two do not fit each other.
    """
    renamed: dict[str, Tensor] = {}
    unexpected = []
    for name, tensor in checkpoint.weights.items():
        name = WRAPPERS.sub("", name)
        if DUPLICATES.search(name):
            continue
        if (ours := nnlite_name(name)) is None:
            unexpected.append(name)
        else:
            renamed[ours] = tensor
    needed = weight_shapes(plan, configuration)
    found = {name: tuple(tensor.shape) for name, tensor in renamed.items()}
    unexpected += sorted(found.keys() - needed.keys())
    faults = {
        "it lacks": sorted(needed.keys() - found.keys()),
        "the plan knows no": unexpected,
        "another shape has": [
            f"{name} {found[name]} instead of {needed[name]}"
            for name in sorted(needed.keys() & found.keys())
            if found[name] != needed[name]
        ],
    }
    if any(faults.values()):
        told = "; ".join(f"{what} {_some(names)}" for what, names in faults.items() if names)
        raise CheckpointError(
            f"{path}, trained by {checkpoint.trainer}, does not fit the network in plans.json: {told}. "
            "Trainers that build a network of their own cannot be taken over"
        )
    return renamed


def nnlite_name(name: str) -> str | None:
    """nnlite's name for one of nnU-Net's weights, None where there is none.

    >>> nnlite_name("encoder.stages.2.0.convs.1.norm.bias")
    'encoder.2.1.1.bias'
    """
    layer, _, parameter = name.rpartition(".")
    for pattern, ours in NAMES:
        match = re.fullmatch(pattern, layer)
        if match is None:
            continue
        groups: Mapping[str, str] = match.groupdict()
        if "part" not in groups:
            return f"{match.expand(ours)}.{parameter}"
        if groups["part"] in PLACES:
            place = PLACES[groups["part"]] + int(groups.get("first", 0))
            return f"{match.expand(ours)}.{place}.{parameter}"
    return None


def _refusal(path: Path, error: Exception) -> str:
    """Why a checkpoint was not opened, in words that help."""
    try:
        with safe_globals(HARMLESS_TYPES):
            unsafe = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # it is no archive of torch at all
        unsafe = []
    if unsafe:
        return (
            f"{path} holds {', '.join(unsafe)}, which could run code when it is opened, so nnlite does not open it; "
            f"if you trust the file, open it in nnU-Net's own Python and save its {', '.join(NEEDED)} and "
            "inference_allowed_mirroring_axes as a new checkpoint"
        )
    return f"{path} cannot be read as a checkpoint ({error}); it may have been cut off: copy it again"


def _some(names: list[str]) -> str:
    more = len(names) - LISTED_WEIGHTS
    return ", ".join(names[:LISTED_WEIGHTS]) + (f" and {more} more" if more > 0 else "")

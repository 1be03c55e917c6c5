"""What nnlite's side of the comparison needs before it can be measured; nothing here is timed. See nnlite_side.py."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import Settings

if TYPE_CHECKING:
    from nnlite.planning.planner import Plan
    from nnlite.workspace import Workspace

CONFIGURATION = "3d"
MEMORY_GIB = 8.0
TRAINED_STEPS = 20  # enough for masks that look like the organ instead of noise
SHIFT_VOXELS = 1  # the masks to evaluate are the truth, moved by this along every axis
PARAMETER_ORDER = ("encoder", "decoder", "upsample", "heads")  # in which nnU-Net lists the same parts


def prepare_plan(settings: Settings) -> dict[str, Any]:
    """A plan, unless there is one."""
    if not workspace_of(settings).plan.exists():
        make_plan(settings, settings.folder("nnlite"))
    return {}


def prepare_cases(settings: Settings) -> dict[str, Any]:
    """The cases that are missing."""
    from nnlite import pipeline

    pipeline.preprocess(Path(settings.dataset), work=workspace_of(settings).root)
    return {}


def prepare_network(settings: Settings) -> dict[str, Any]:
    """Train the network to be measured for a few steps, and write its weights for nnU-Net to read."""
    from nnlite import pipeline
    from nnlite.data.records import write_record
    from nnlite.networks.build import build_network
    from nnlite.training.checkpoint import load_model

    work = network_folder(settings)
    workspace = workspace_of(settings, work)
    run = workspace.run(CONFIGURATION, "all")
    if not run.checkpoint_final.exists():
        shutil.rmtree(work, ignore_errors=True)
        make_plan(settings, work)
        write_record(workspace.plan, plan_of(settings))
        dataset, device, steps = Path(settings.dataset), settings.device, TRAINED_STEPS
        pipeline.train(dataset, CONFIGURATION, ["all"], work=work, device=device, epochs=1, iterations=steps)
    checkpoint = load_model(run.checkpoint_final)
    plan = checkpoint.card.plan
    names = list(build_network(plan, plan.configuration(CONFIGURATION)).state_dict())  # a file of weights is sorted
    ordered = [name for part in PARAMETER_ORDER for name in names if name.startswith(f"{part}.")]
    assert len(ordered) == len(names), "every part of the network has its place in the order"
    np.savez(settings.folder("weights.npz"), *(checkpoint.weights[name].numpy() for name in ordered))
    return {}


def prepare_masks(settings: Settings) -> dict[str, Any]:
    """Folders with the truth of some cases, and with the same masks moved a little."""
    from nnlite.data.image import read_label, write_mask

    truth, moved = settings.folder("truth"), settings.folder("moved")
    for folder in (truth, moved):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for case_id in settings.case_ids:
        label = read_label(Path(settings.dataset) / "labelsTr" / f"{case_id}.nii.gz")
        mask = label.array[0].astype(np.uint8)
        write_mask(truth / f"{case_id}.nii.gz", mask, like=label)
        write_mask(moved / f"{case_id}.nii.gz", np.roll(mask, SHIFT_VOXELS, axis=(0, 1, 2)), like=label)
    return {}


def workspace_of(settings: Settings, work: Path | None = None) -> Workspace:
    """The dataset's workspace in ``work``, or in the folder that all stages share."""
    from nnlite.workspace import Workspace

    return Workspace(root=work or settings.folder("nnlite"), dataset=Path(settings.dataset).name)


def plan_of(settings: Settings) -> Plan:
    """The plan, its 3d network as wide as asked for."""
    from nnlite.data.records import read_record
    from nnlite.planning.planner import Plan

    plan = read_record(workspace_of(settings).plan, Plan)
    planned = plan.configuration(CONFIGURATION)
    widths = planned.topology.features
    features = tuple(width * settings.base_features // widths[0] for width in widths)
    narrowed = replace(planned, topology=replace(planned.topology, features=features))
    return replace(plan, configurations={**plan.configurations, CONFIGURATION: narrowed})


def make_plan(settings: Settings, work: Path) -> None:
    """Check, fingerprint and plan, as ``nnlite plan`` does, with nnU-Net's own rules."""
    from nnlite import pipeline

    pipeline.plan(Path(settings.dataset), work=work, device="cuda", memory_gib=MEMORY_GIB, preset="nnunet")


def network_folder(settings: Settings) -> Path:
    """Root of the workspace that holds the trained network."""
    return settings.folder(f"network-{settings.base_features}")

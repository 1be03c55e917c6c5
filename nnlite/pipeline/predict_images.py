"""Predict raw images with trained runs; the model is loaded once for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from nnlite.data.dataset import Case, default_name, find_dataset, find_images
from nnlite.data.image import read_channels, write_image, write_mask
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record
from nnlite.errors import CheckpointError, DatasetError, ImageError, UsageError
from nnlite.evaluation.scores import Summary
from nnlite.inference.predict import Model, predict_image
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.pipeline.dataset_source import refuse_another_source
from nnlite.pipeline.load_model import load
from nnlite.pipeline.machine import device_name
from nnlite.pipeline.plan_dataset import DEFAULT_WORK
from nnlite.workspace import RunFolder, Workspace, locate_run

PROBABILITIES_SUFFIX = ".probabilities.nii.gz"  # one channel per label, readable by every viewer


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """The masks that were written, in the order of the cases, and how long each case took with reading and writing."""

    masks: tuple[Path, ...]
    configuration: str
    folds: tuple[str, ...]
    seconds_per_case: tuple[float, ...]


def predict(
    model: Path,
    inputs: Sequence[Path],
    output: Path,
    *,
    work: Path = DEFAULT_WORK,
    configuration: str | None = None,
    folds: Sequence[str] = (),
    mirroring: bool = True,
    step: float = WINDOW_STEP,
    device: str = "auto",
    probabilities: bool = False,
    progress: Progress = silent,
) -> PredictResult:
    """Segment images (files or folders) and write one mask per case to ``output``.

    ``model`` is a dataset with trained runs, its folder in the workspace, or the folder of one run. Of a dataset, the
    configuration with the highest mean Dice over its held-out cases is used unless ``configuration`` names one, and all
    its trained folds are averaged unless ``folds`` names some. A mask has its image's geometry and format, and the
    label values of the training labels. ``probabilities`` also writes ``CASE.probabilities.nii.gz``, one channel per
    label. Images that cannot be read are told of at the end, in one ``ImageError``, when all others are predicted.
    """
    if output.is_file():
        raise UsageError(f"{output} is a file; give the folder for the masks")
    target = torch.device(device_name(device))
    runs = _runs(model, work, configuration, folds)
    network = _load(runs, device=target, mirroring=mirroring, step=step)
    cases = find_images(inputs, len(network.plan.channels))
    given = {path.resolve() for case in cases for path in case.images}
    masks, seconds, faults = [], [], []
    for done, case in enumerate(cases, start=1):
        started = time.perf_counter()
        try:
            masks.append(_predict_case(network, case, output, given, probabilities=probabilities))
            seconds.append(time.perf_counter() - started)
        except ImageError as error:  # one broken scan must not cost the night that a thousand others take
            faults.append(f"{case.id}: {error}")
        progress("predict", done, len(cases))
    if faults:
        headline = f"{len(faults)} of {len(cases)} cases could not be predicted, the others are in {output}:"
        raise ImageError("\n  ".join([headline, *faults]))
    return PredictResult(
        masks=tuple(masks),
        configuration=network.configuration.name,
        folds=tuple(run.fold for run in runs),
        seconds_per_case=tuple(seconds),
    )


def _predict_case(model: Model, case: Case, output: Path, given: set[Path], *, probabilities: bool) -> Path:
    """Predict one case and write its mask, whose path is returned; files in ``given`` are not overwritten."""
    image = read_channels(case.images)
    mask_path = output / f"{case.id}{image.stored.mask_suffix}"
    if mask_path.resolve() in given:
        raise UsageError(f"the mask of {case.id} would overwrite its image {mask_path}; choose another folder with -o")
    prediction = predict_image(model, case.id, image, probabilities=probabilities)
    write_mask(mask_path, model.plan.labels.to_values(prediction.indices), like=image)
    if prediction.probabilities is not None:
        path = output / f"{case.id}{PROBABILITIES_SUFFIX}"
        voxels = prediction.probabilities.astype(np.float32)  # no image format holds float16
        write_image(path, voxels, image.geometry, planar=image.planar)
    return mask_path


def _runs(model: Path, work: Path, configuration: str | None, folds: Sequence[str]) -> tuple[RunFolder, ...]:
    """The runs whose networks are averaged."""
    run = RunFolder(folder=model)
    if run.config.exists():
        if configuration not in (None, run.configuration) or any(fold != run.fold for fold in folds):
            raise UsageError(
                f"{model} is the training {run.configuration} {run.fold} alone; give the dataset, "
                "or its folder in the workspace, to choose others with --config and --folds"
            )
        return (run,)
    workspace = _workspace(model, work)
    trained = [run for run in workspace.existing_runs() if run.checkpoint_final.exists()]
    if not trained:
        raise CheckpointError(f"{workspace.folder} holds no finished training; run nnlite train first")
    by_configuration: dict[str, list[RunFolder]] = {}
    for run in trained:
        by_configuration.setdefault(run.configuration, []).append(run)
    name = configuration or max(by_configuration, key=lambda name: _mean_dice(by_configuration[name]))
    if name not in by_configuration:
        raise UsageError(f'no fold of "{name}" is trained; trained are {", ".join(by_configuration)}')
    chosen = [run for run in by_configuration[name] if not folds or run.fold in folds]
    if missing := sorted(set(folds) - {run.fold for run in chosen}):
        there = ", ".join(run.fold for run in by_configuration[name])
        raise UsageError(f"{name} {', '.join(missing)} is not trained; trained are {there}")
    return tuple(chosen)


def _workspace(model: Path, work: Path) -> Workspace:
    """The workspace of a dataset's folder, or of a dataset that is given by its folder in the workspace."""
    if (model / "plan.json").exists():
        return Workspace(root=model.resolve().parent, dataset=model.resolve().name)
    unnamed = Workspace(root=work, dataset=default_name(model))
    if not model.exists():
        if not unnamed.plan.exists():
            raise UsageError(
                f"there is no model {model}: it is neither a dataset nor the folder of a training, and {work} has no "
                f'dataset "{unnamed.dataset}"; give the dataset that was trained on, or say with --work where the '
                "workspace lies"
            )
        return unnamed
    workspace = unnamed
    if not unnamed.plan.exists():
        try:
            workspace = Workspace(root=work, dataset=find_dataset(model, description=unnamed.description).name)
        except DatasetError as error:
            raise UsageError(
                f"{model} is no model: give the dataset that was trained on, its folder in the workspace, "
                "or the folder of one training (WORK/DATASET/runs/CONFIG/FOLD)"
            ) from error
    # a model trained on another dataset of this name must not be taken for this one's
    refuse_another_source(model if model.is_dir() else model.parent, workspace)
    return workspace


def _mean_dice(runs: Sequence[RunFolder]) -> float:
    """Mean Dice over the held-out cases of these runs; -1 where nothing was held out."""
    known = [dice for run in runs if (dice := _dice(run)) is not None]
    return sum(known) / len(known) if known else -1.0


def _dice(run: RunFolder) -> float | None:
    return read_record(run.summary, Summary).foreground["dice"] if run.summary.exists() else None


def _load(runs: Sequence[RunFolder], *, device: torch.device, mirroring: bool, step: float) -> Model:
    """The model of these runs, with its first stage where it is the second of a cascade."""
    model = load([run.checkpoint_final for run in runs], device=device, mirroring=mirroring, step=step)
    stage = model.configuration.previous_stage
    if stage is None:
        return model
    workspace, _ = locate_run(runs[0].folder)
    first = [run for run in workspace.existing_runs() if run.configuration == stage and run.checkpoint_final.exists()]
    if not first:
        raise CheckpointError(
            f"{model.configuration.name} continues from {stage}, of which {workspace.folder} holds no finished "
            f"training; run nnlite train {workspace.dataset} {stage} fold0 .. fold4"
        )
    return replace(model, previous=_load(first, device=device, mirroring=mirroring, step=step))

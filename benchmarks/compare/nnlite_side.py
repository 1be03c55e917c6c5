"""The stages of the comparison as nnlite does them, through its public entry points. See measure.py.

Plan (preset nnunet, 8 GiB) and cases lie in WORK/nnlite. WORK/network-FEATURES is a workspace whose 3d network has the
width to be measured and a short training, so that there are weights to predict with.
"""

from __future__ import annotations

import shutil
import statistics
import time
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from measure import Settings, rate, run_side, smooth_logits, timed
from nnlite_setup import (
    CONFIGURATION,
    make_plan,
    network_folder,
    plan_of,
    prepare_cases,
    prepare_masks,
    prepare_network,
    prepare_plan,
    workspace_of,
)

from nnlite.data.memory import keep_freed_memory

if TYPE_CHECKING:
    import torch

    from nnlite.training.batches import BatchSource
    from nnlite.training.config import TrainConfig

WARM_UP_BATCHES = 4  # more than lie ready when loading starts
MORE_BATCHES_THAN_DRAWN = 10**6


def plan(settings: Settings) -> dict[str, Any]:
    """Check, fingerprint and plan, as ``nnlite plan`` does."""
    import SimpleITK  # noqa: F401 (all loaded before the clock starts)

    from nnlite.pipeline import plan_dataset  # noqa: F401

    return timed(lambda: make_plan(settings, settings.folder("nnlite")))


def preprocess(settings: Settings) -> dict[str, Any]:
    """All configurations of all cases, from nothing."""
    import SimpleITK  # noqa: F401

    from nnlite import pipeline
    from nnlite.pipeline import prepare_cases  # noqa: F401

    workspace = workspace_of(settings)
    shutil.rmtree(workspace.cases(CONFIGURATION).parent, ignore_errors=True)
    return timed(lambda: pipeline.preprocess(Path(settings.dataset), work=workspace.root))


def restore(settings: Settings) -> dict[str, Any]:
    """Labels on an image's grid from logits on the network's, as they come from the sliding window."""
    keep_freed_memory()  # as predict does
    import scipy.ndimage  # noqa: F401 - loaded by the first resampling, for a second where files are not in memory
    import torch

    from nnlite.preprocessing.preprocess import Restoration
    from nnlite.preprocessing.restore import restore_labels

    shape = settings.image_shape
    z, y, x = ((0, size) for size in shape)
    restoration = Restoration(
        case_id="case",
        shape=shape,
        box=(z, y, x),
        transpose=(0, 1, 2),
        cropped_shape=shape,
        spacing_mm=settings.image_spacing_mm,
        resampled_shape=settings.network_shape,
        resampled_spacing_mm=settings.network_spacing_mm,  # type: ignore[arg-type]
    )
    logits = torch.from_numpy(smooth_logits(settings, np.float32)).to(settings.device)
    masks: list[np.ndarray] = []
    result = timed(lambda: masks.append(restore_labels(logits, restoration)))
    np.save(settings.folder(f"restored-nnlite-{settings.labels}.npy"), masks[0])
    return result


def same_restored(settings: Settings) -> dict[str, Any]:
    """Share of voxels where both sides restored the same label."""
    ours, theirs = (np.load(settings.folder(f"restored-{s}-{settings.labels}.npy")) for s in ("nnlite", "nnunetv2"))
    return {"agreement": {"share of voxels with the same label": float((ours == theirs).mean())}}


def predict(settings: Settings) -> dict[str, Any]:
    """From raw images to masks on disk, averaged over eight flips."""
    from nnlite import pipeline
    from nnlite.pipeline import predict_images  # noqa: F401

    run = workspace_of(settings, network_folder(settings)).run(CONFIGURATION, "all")
    images = [Path(settings.dataset) / "imagesTr" / f"{case_id}.nii.gz" for case_id in settings.case_ids]
    output = settings.folder(f"masks-nnlite-{settings.precision}")
    shutil.rmtree(output, ignore_errors=True)
    with _forced_precision(settings):
        return timed(lambda: pipeline.predict(run.folder, images, output, device=settings.device))


def same_predicted(settings: Settings) -> dict[str, Any]:
    """Mean Dice between the masks of both sides.

    It is not quite 1: nnlite reads every image in one orientation, so an odd number of voxels that an image lacks to
    fill a window is added at the other end, and a network of a few steps minds. Turned the same way, the preprocessed
    voxels of all cases agree within 2e-6.
    """
    from nnlite import pipeline

    labels = plan_of(settings).labels
    theirs, found = settings.folder("masks-nnunetv2"), {}
    for ours in sorted(Path(settings.work).glob("masks-nnlite-*")):
        scores = pipeline.evaluate(theirs, ours, labels=labels)
        dice = [row.dice for row in scores.rows if row.dice == row.dice]  # NaN: label in neither
        found[f"mean Dice of {ours.name} and nnU-Net's masks"] = statistics.fmean(dice)
    return {"agreement": found}


def evaluate(settings: Settings) -> dict[str, Any]:
    """Scores of all masks, written to disk."""
    import scipy.spatial  # noqa: F401
    import SimpleITK  # noqa: F401
    import skimage.measure  # noqa: F401

    from nnlite import pipeline
    from nnlite.pipeline import evaluate_masks  # noqa: F401

    truth, moved, labels = settings.folder("truth"), settings.folder("moved"), plan_of(settings).labels
    output, metrics = settings.folder("scores-nnlite"), settings.metrics
    return timed(lambda: pipeline.evaluate(truth, moved, output=output, labels=labels, metrics=metrics))


def loader(settings: Settings) -> dict[str, Any]:
    """Patches per second with all augmentation, when nothing else is done."""
    keep_freed_memory()  # as train does
    source = _batches(settings)
    with closing(source.training_batches(0, MORE_BATCHES_THAN_DRAWN)) as batches:
        for _ in range(WARM_UP_BATCHES):
            next(batches)
        return {"value": source.batch_size * rate(lambda: next(batches))}


def step(settings: Settings) -> dict[str, Any]:
    """One step of the optimiser on random images, several times."""
    keep_freed_memory()  # as train does
    import torch

    from nnlite.networks.build import build_network
    from nnlite.training.assemble import Batch
    from nnlite.training.learner import Learner

    plan, device = plan_of(settings), torch.device(settings.device)
    configuration = plan.configuration(CONFIGURATION)
    network = build_network(plan, configuration).to(device).train()
    labels, batch_dice = plan.labels.count, configuration.batch_dice
    learner = Learner(network, _config(settings), batch_dice=batch_dice, device=device)
    size = (configuration.batch_size, *configuration.patch_size)
    batch = Batch(
        images=torch.randn(size[0], len(plan.channels), *size[1:], device=device),
        labels=torch.randint(0, labels, size, device=device),
    )

    def one_step() -> None:
        learner.step(batch, 0.01)
        _wait(device)

    seconds = [timed(one_step)["value"] for _ in range(settings.iterations + 2)][2:]  # the first two warm up
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"value": statistics.median(seconds), "parameters": parameters}


def epoch(settings: Settings) -> dict[str, Any]:
    """The second epoch of a training: batches, steps, validation, log and checkpoint."""
    keep_freed_memory()  # as train does
    import torch

    from nnlite.training.train import TrainFiles, train

    plan, source, run = plan_of(settings), _batches(settings), settings.folder("epoch-nnlite")
    shutil.rmtree(run, ignore_errors=True)
    ends: list[float] = []
    train(
        plan,
        plan.configuration(CONFIGURATION),
        _config(settings),
        fold="fold0",
        training_cases=source.training_cases,
        validation_cases=source.validation_cases,
        files=TrainFiles(
            log=run / "log.jsonl",
            plot=run / "progress.png",
            best=run / "best.safetensors",
            last=run / "last.pt",
            previous=run / "previous.pt",
            final=run / "final.safetensors",
        ),
        device=torch.device(settings.device),
        on_epoch=lambda _: ends.append(time.perf_counter()),
    )
    return {"value": ends[1] - ends[0]}


def _batches(settings: Settings) -> BatchSource:
    """Batches of fold 0 from the preprocessed cases."""
    import torch

    from nnlite.data.records import read_record
    from nnlite.data.split import Splits
    from nnlite.preprocessing.store import CaseStore
    from nnlite.training.batches import BatchSource

    plan, workspace = plan_of(settings), workspace_of(settings)
    store = CaseStore(workspace.cases(CONFIGURATION))
    split = read_record(workspace.splits, Splits).folds[0]
    return BatchSource(
        plan,
        plan.configuration(CONFIGURATION),
        {case_id: store.open(case_id) for case_id in split.train},
        {case_id: store.open(case_id) for case_id in split.validation},
        seed=0,
        device=torch.device(settings.device),
    )


def _config(settings: Settings) -> TrainConfig:
    """nnU-Net's own optimiser, two epochs of the length asked for."""
    import torch

    from nnlite.training.config import TrainConfig, best_precision

    precision = "fp32" if settings.precision == "fp32" else best_precision(torch.device(settings.device))
    validation = max(1, settings.iterations // 5)  # 50 to 250, as in a full training
    return TrainConfig(epochs=2, iterations=settings.iterations, validation_iterations=validation, precision=precision)


def _forced_precision(settings: Settings) -> AbstractContextManager[object]:
    """Prediction chooses the arithmetic itself; here it can be made to choose float32."""
    if settings.precision == "default":
        return nullcontext()
    return mock.patch("nnlite.pipeline.load_model.best_precision", return_value=settings.precision)


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


STAGES = {
    stage.__name__: stage
    for stage in (
        *(prepare_plan, prepare_cases, prepare_network, prepare_masks),
        *(plan, preprocess, restore, predict, evaluate, loader, step, epoch),
        *(same_restored, same_predicted),
    )
}

if __name__ == "__main__":
    run_side(STAGES, ("nnlite", "torch", "numpy", "scipy"))

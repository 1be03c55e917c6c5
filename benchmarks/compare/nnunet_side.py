"""The stages of the comparison as nnU-Net v2 does them, run by the interpreter that has it. See measure.py.

nnlite is not imported here, nor nnU-Net by nnlite. Its folders lie below WORK; the number of its processes comes from
its environment variables, which compare.py sets, and from what its functions are called with: one per core, or what
its commands take if they are not told otherwise.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import Settings, rate, run_side, smooth_logits, timed

# mypy: disable-error-code="import-not-found, import-untyped"
# nnU-Net has an environment of its own, in which nothing is type-checked

DATASET_ID, DATASET = 4, "Dataset004_Hippocampus"
PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
MEMORY_GIB = 8.0
MIRROR_AXES = (0, 1, 2)
PREPROCESSING_PROCESSES = (8, 4)  # default of nnUNetv2_preprocess for 2d and for 3d_fullres
PREDICTION_PROCESSES = 3  # default of nnUNetv2_predict, for preprocessing and for export
WARM_UP_BATCHES = 20  # more than lie ready when loading starts


def prepare_dataset(settings: Settings) -> dict[str, Any]:
    """The dataset as nnU-Net wants it: links to the same files, under its names, and its dataset.json."""
    dataset, raw = Path(settings.dataset), settings.folder("nnUNet_raw") / DATASET
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        shutil.rmtree(raw / folder, ignore_errors=True)
        (raw / folder).mkdir(parents=True)
        for path in (dataset / folder).glob("*.nii.gz"):
            (raw / folder / path.name.replace(".nii.gz", ending)).symlink_to(path)
    described = json.loads((dataset / "dataset.json").read_text())
    translated = {
        "channel_names": described["modality"],
        "labels": {name: int(value) for value, name in described["labels"].items()},
        "numTraining": len(list((raw / "imagesTr").iterdir())),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(translated))
    return {}


def plan(settings: Settings) -> dict[str, Any]:
    """Fingerprint and plan, as its two commands do; its check of the dataset is left out."""
    from nnunetv2.configuration import default_num_processes
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments

    def work() -> None:
        extract_fingerprints([DATASET_ID], num_processes=_processes(settings, default_num_processes), clean=True)
        plan_experiments([DATASET_ID], gpu_memory_target_in_gb=MEMORY_GIB)

    return timed(work)


def prepare_plan(settings: Settings) -> dict[str, Any]:
    """A plan, unless there is one."""
    return {} if (_preprocessed(settings) / f"{PLANS}.json").exists() else plan(settings)


def preprocess(settings: Settings) -> dict[str, Any]:
    """The 2d and the 3d configuration of all cases, from nothing."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess

    for folder in _preprocessed(settings).glob(f"{PLANS}_*/"):
        shutil.rmtree(folder)
    processes = [_processes(settings, default) for default in PREPROCESSING_PROCESSES]
    return timed(lambda: preprocess([DATASET_ID], PLANS, ("2d", CONFIGURATION), processes))


def prepare_cases(settings: Settings) -> dict[str, Any]:
    """The cases, unless all are there."""
    ready = len(list((_preprocessed(settings) / f"{PLANS}_{CONFIGURATION}").glob("*.pkl")))
    planned = json.loads((_preprocessed(settings) / "dataset.json").read_text())["numTraining"]
    return {} if ready == planned else preprocess(settings)


def prepare_network(settings: Settings) -> dict[str, Any]:
    """A trained model as nnU-Net keeps it, with the weights that nnlite has written."""
    import torch

    trainer = _trainer(settings)
    network = trainer.network
    tensors = list(np.load(settings.folder("weights.npz")).values())
    parameters = list(network.parameters())
    shapes, needed = ([tuple(tensor.shape) for tensor in one] for one in (tensors, parameters))
    if shapes != needed:
        raise RuntimeError(f"the networks differ: nnlite has parameters {shapes}, nnU-Net {needed}")
    with torch.no_grad():
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.copy_(torch.from_numpy(tensor))
    model = settings.folder("model-nnunetv2")
    fold = model / "fold_0"
    fold.mkdir(parents=True, exist_ok=True)
    (model / "plans.json").write_text(json.dumps(_plans(settings)))
    shutil.copy(_preprocessed(settings) / "dataset.json", model / "dataset.json")
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION},
        "inference_allowed_mirroring_axes": MIRROR_AXES,
    }
    torch.save(checkpoint, fold / "checkpoint_final.pth")
    return {}


def restore(settings: Settings) -> dict[str, Any]:
    """Labels on an image's grid from logits on the network's: float16 in main memory, as its predictor gives them."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = _plans(settings)
    plans["configurations"][CONFIGURATION]["spacing"] = settings.network_spacing_mm
    manager = PlansManager(plans)
    labels = {"background": 0} | {f"label {index}": index for index in range(1, settings.labels)}
    properties = {
        "spacing": settings.image_spacing_mm,
        "shape_before_cropping": settings.image_shape,
        "shape_after_cropping_and_before_resampling": settings.image_shape,
        "bbox_used_for_cropping": [[0, size] for size in settings.image_shape],
    }
    logits = smooth_logits(settings, np.float16)
    masks: list[np.ndarray] = []

    def work() -> None:
        mask = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            manager,
            manager.get_configuration(CONFIGURATION),
            manager.get_label_manager({"labels": labels}),
            properties,
        )
        masks.append(mask)

    result = timed(work)
    np.save(settings.folder(f"restored-nnunetv2-{settings.labels}.npy"), masks[0])
    return result


def predict(settings: Settings) -> dict[str, Any]:
    """From raw images to masks on disk, averaged over eight flips; loading the model included."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    images = [
        [str(settings.folder("nnUNet_raw") / DATASET / "imagesTr" / f"{case_id}_0000.nii.gz")]
        for case_id in settings.case_ids
    ]
    output, processes = settings.folder("masks-nnunetv2"), _processes(settings, PREDICTION_PROCESSES)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)

    def work() -> None:
        predictor = nnUNetPredictor(device=torch.device(settings.device), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(settings.folder("model-nnunetv2")), (0,))
        predictor.predict_from_files(
            images,
            [str(output / case_id) for case_id in settings.case_ids],
            num_processes_preprocessing=processes,
            num_processes_segmentation_export=processes,
        )

    return timed(work)


def evaluate(settings: Settings) -> dict[str, Any]:
    """Scores of all masks, written to disk."""
    from nnunetv2.configuration import default_num_processes
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    reader_writer = PlansManager(_plans(settings)).image_reader_writer_class()
    labels = json.loads((_preprocessed(settings) / "dataset.json").read_text())["labels"].values()
    truth, moved, scores = (str(settings.folder(name)) for name in ("truth", "moved", "scores-nnunetv2.json"))
    foreground = [label for label in labels if label != 0]
    processes = _processes(settings, default_num_processes)
    return timed(
        lambda: compute_metrics_on_folder(
            truth, moved, scores, reader_writer, ".nii.gz", foreground, num_processes=processes
        )
    )


def loader(settings: Settings) -> dict[str, Any]:
    """Patches per second with all augmentation, when nothing else is done."""
    trainer = _trainer(settings)
    training, validation = trainer.get_dataloaders()
    for _ in range(WARM_UP_BATCHES):
        next(training)
    batches_per_s = rate(lambda: next(training))
    for source in (training, validation):
        source._finish()  # as its own training ends
    return {"value": trainer.batch_size * batches_per_s}


def step(settings: Settings) -> dict[str, Any]:
    """One step of the optimiser on random images, several times."""
    import torch

    trainer = _trainer(settings)
    device = torch.device(settings.device)
    trainer.network.train()
    patch = trainer.configuration_manager.patch_size
    labels = trainer.label_manager.num_segmentation_heads
    scales = [[1.0] * len(patch), *trainer._get_deep_supervision_scales()[1:]]
    sizes = [[round(size * factor) for size, factor in zip(patch, scale, strict=True)] for scale in scales]
    batch = {
        "data": torch.randn(trainer.batch_size, 1, *patch, device=device),
        "target": [
            torch.randint(0, labels, (trainer.batch_size, 1, *size), dtype=torch.int16, device=device) for size in sizes
        ],
    }

    def one_step() -> None:
        trainer.train_step(batch)  # returns the loss as a number, so it waits for the device
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    seconds = [timed(one_step)["value"] for _ in range(settings.iterations + 2)][2:]  # the first two warm up
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    return {"value": statistics.median(seconds), "parameters": parameters}


def epoch(settings: Settings) -> dict[str, Any]:
    """The second epoch of a training: batches, steps, validation, log and checkpoint."""
    trainer = _trainer(settings)
    trainer.num_epochs, trainer.num_iterations_per_epoch = 2, settings.iterations
    trainer.num_val_iterations_per_epoch = max(1, settings.iterations // 5)
    ends: list[float] = []
    end_epoch = trainer.on_epoch_end

    def end_timed_epoch() -> None:
        end_epoch()
        ends.append(time.perf_counter())

    trainer.on_epoch_end = end_timed_epoch
    trainer.run_training()
    return {"value": ends[1] - ends[0]}


def _processes(settings: Settings, default: int) -> int:
    """How many processes nnU-Net is told to start."""
    return default if settings.nnunet_processes == "default" else settings.workers


def _preprocessed(settings: Settings) -> Path:
    return settings.folder("nnUNet_preprocessed") / DATASET


def _plans(settings: Settings) -> dict[str, Any]:
    """Its plan, the 3d network as wide as asked for."""
    plans = json.loads((_preprocessed(settings) / f"{PLANS}.json").read_text())
    network = plans["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]
    widths = network["features_per_stage"]
    network["features_per_stage"] = [width * settings.base_features // widths[0] for width in widths]
    return plans


def _trainer(settings: Settings) -> Any:
    """Its trainer of fold 0, network and all."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans = _plans(settings) | {"continue_training": False}
    dataset_json = json.loads((_preprocessed(settings) / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, CONFIGURATION, 0, dataset_json, device=torch.device(settings.device))
    trainer.initialize()
    return trainer


STAGES = {
    stage.__name__: stage
    for stage in (
        *(prepare_dataset, prepare_plan, prepare_cases, prepare_network),
        *(plan, preprocess, restore, predict, evaluate, loader, step, epoch),
    )
}

if __name__ == "__main__":
    run_side(STAGES, ("nnunetv2", "torch", "numpy", "scipy"))

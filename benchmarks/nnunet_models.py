"""Make small models with nnU-Net itself, and let nnU-Net predict with them; run by nnU-Net's Python, not by nnlite's.

    PYTHON_OF_NNUNET benchmarks/nnunet_models.py WORK

Reads WORK/models.json and the images that benchmarks/same_masks.py put into WORK; writes nnU-Net's result folders to
WORK/results, its masks and probabilities to WORK/expected/MODEL, and the logits of one patch beside them.
The networks come from nnU-Net's trainer and are stored by it; a few steps of training leave the noise behind. A model
that is "trained" already, in a result folder of WORK, only predicts (benchmarks/stored_predictions.py).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

WORK = Path(sys.argv[1]).resolve()
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = str(WORK / variable.removeprefix("nnUNet_"))
os.environ["nnUNet_compile"] = "f"  # noqa: SIM112 (this is its name)

import numpy as np  # noqa: E402 (nnU-Net reads the variables above when it is imported)
import torch  # noqa: E402
from nnunetv2.ensembling.ensemble import ensemble_folders  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402

LEARNING_RATE = 3e-3
BACKGROUND_WEIGHT = 0.3  # of cross entropy: after so few steps nothing else would be predicted of small structures


def draw(
    image: np.ndarray, label: np.ndarray, size: list[int], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A patch (1, channels, *size) that holds a random labelled voxel, and its labels; 2D patches are slices."""
    window = (1,) * (3 - len(size)) + tuple(size)
    missing = [max(0, w - n) for n, w in zip(image.shape[1:], window, strict=True)]
    image = np.pad(image, [(0, 0), *((0, m) for m in missing)])
    label = np.pad(label, [(0, m) for m in missing])
    voxels = np.argwhere(label > 0)
    voxel = voxels[rng.integers(len(voxels))]
    starts = [
        int(np.clip(rng.integers(v - w + 1, v + 1), 0, n - w))
        for v, n, w in zip(voxel, label.shape, window, strict=True)
    ]
    region = tuple(slice(start, start + w) for start, w in zip(starts, window, strict=True))
    x, y = torch.from_numpy(image[:, *region])[None], torch.from_numpy(label[region].astype(np.int64))[None]
    return (x[:, :, 0], y[:, 0]) if len(size) == 2 else (x, y)


def train(trainer: nnUNetTrainer, cases: list[tuple[np.ndarray, np.ndarray]], seed: int, steps: int) -> torch.Tensor:
    """A few steps on random patches, of cross entropy, binary for regions; returns the last patch."""
    labels = trainer.label_manager
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(trainer.network.parameters(), LEARNING_RATE)
    trainer.network.train()
    for step in range(steps):
        x, y = draw(*cases[step % len(cases)], trainer.configuration_manager.patch_size, rng)
        logits = trainer.network(x)[0]
        if labels.has_regions:
            inside = [torch.isin(y, torch.tensor(np.atleast_1d(region))) for region in labels.foreground_regions]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.stack(inside, dim=1).float())
        else:
            weights = torch.ones(logits.shape[1])
            weights[0] = BACKGROUND_WEIGHT
            loss = torch.nn.functional.cross_entropy(logits, y, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"  {trainer.configuration_name} fold {trainer.fold}: loss {loss.item():.3f}", flush=True)
    # what nnU-Net logs at the end of an epoch, in the types in which it logs it
    trainer.logger.log("train_losses", np.float32(loss.item()), 0)
    trainer.logger.log("val_losses", np.float32(loss.item()), 0)
    trainer.logger.log("dice_per_class_or_region", [np.float64(0.5)] * 5, 0)
    trainer.logger.log("mean_fg_dice", np.float64(0.5), 0)
    return x


def make_model(model: dict) -> None:
    """Train every fold of a model and predict with all of them."""
    plans, dataset = model["plans"], model["dataset"]
    configuration = model["configuration"]
    foreground = range(1, len(dataset["labels"]))
    previous = plans["configurations"][configuration].get("previous_stage")
    for fold in range(model["folds"]):
        torch.manual_seed(fold)
        trainer = nnUNetTrainer(
            {**json.loads(json.dumps(plans)), "continue_training": False},
            configuration,
            fold,
            dataset,
            torch.device("cpu"),
        )
        Path(trainer.preprocessed_dataset_folder).mkdir(parents=True, exist_ok=True)
        (Path(trainer.preprocessed_dataset_folder) / "some.b2nd").touch()  # nnU-Net asks how its cases are stored
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        cases = []
        for name in model["training"]:
            image, label, _ = DefaultPreprocessor(verbose=False).run_case(
                [str(WORK / "images" / f"{name}_0000.nii.gz")],
                str(WORK / "labels" / f"{name}.nii.gz"),
                trainer.plans_manager,
                trainer.configuration_manager,
                dataset,
            )
            label = np.maximum(label[0], 0)
            if previous is not None:  # the first stage's answer, for training: the truth
                image = np.concatenate([image, *((label == value)[None].astype(np.float32) for value in foreground)])
            cases.append((image, label))
        patch = train(trainer, cases, seed=fold, steps=model["steps"])
        trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    base = Path(trainer.output_folder_base)
    (base / "plans.json").write_text(json.dumps(plans))
    (base / "dataset.json").write_text(json.dumps(dataset))
    predict(model, base, patch)


def predict(model: dict, base: Path, patch: torch.Tensor | None = None) -> None:
    """Predict the model's images, and the logits of ``patch`` by its first fold."""
    images, first_stage = model["images"], model.get("first_stage")
    if not images:
        return
    predictor = nnUNetPredictor(
        perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False, use_mirroring=True
    )
    predictor.initialize_from_trained_model_folder(str(base), None, "checkpoint_final.pth")
    expected = WORK / "expected" / model["name"]
    expected.mkdir(parents=True, exist_ok=True)
    if patch is not None:
        with torch.inference_mode():
            predictor.network.load_state_dict(predictor.list_of_parameters[0])
            predictor.network.eval()
            logits = predictor.network(patch)
        np.savez(WORK / "expected" / f"{model['name']}.npz", patch=patch.numpy(), logits=logits.numpy())
    predictor.predict_from_files_sequential(
        [[str(WORK / "images" / f"{image}_0000.nii.gz")] for image in images],
        [str(expected / image) for image in images],
        save_probabilities=True,
        folder_with_segs_from_prev_stage=str(WORK / "expected" / first_stage) if first_stage else None,
    )


def average(model: dict) -> None:
    """The ensemble of models that have predicted already."""
    folders = [str(WORK / "expected" / member) for member in model["members"]]
    target = WORK / "expected" / model["name"]
    ensemble_folders(folders, str(target), save_merged_probabilities=True, num_processes=1)


def main() -> None:
    for model in json.loads((WORK / "models.json").read_text())["models"]:
        if model.get("members"):
            average(model)
        elif "trained" in model:
            predict(model, WORK / model["trained"])
        else:
            make_model(model)


if __name__ == "__main__":
    main()

"""How a training runs: length, optimiser, precision, seed. The method's constants, each a default that can be named.

Defaults for GPUs are those of nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021). On a CPU a training has
minutes instead of days, so it takes an optimiser that gets further in few steps, and shorter epochs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from nnlite.data.records import record
from nnlite.errors import UsageError
from nnlite.planning import cpu
from nnlite.training.augmentation.presets import PresetName
from nnlite.training.loss import Loss

Precision = Literal["fp32", "bf16", "fp16"]
ScheduleName = Literal["polynomial", "cosine", "step", "plateau", "constant"]
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

CPU_LEARNING_RATE = 3e-3
CPU_WEIGHT_DECAY = 1e-2


@record
class TrainConfig:
    """Everything that decides the course of a training besides plan and data.

    With ``time_budget_s`` the learning rate falls with the time used, and training ends when it is used up; ``epochs``
    then does not matter.
    """

    epochs: int = 1000
    iterations: int = 250  # per epoch
    validation_iterations: int = 50  # per epoch, on patches of the validation cases
    time_budget_s: float | None = None
    loss: str = "dice+ce"  # a sum of the terms of ``loss.py``
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    weight_decay: float = 3e-5
    momentum: float = 0.99  # Nesterov; SGD only
    schedule: ScheduleName = "polynomial"  # how the learning rate falls
    decay_exponent: float = 0.9  # of the polynomial learning rate
    warm_up: float = 0.0  # the rate rises over so many epochs; below 1: over this share of the training
    gradient_norm: float = 12.0  # gradients are clipped to this norm
    precision: Precision = "fp32"
    seed: int = 0
    deterministic: bool = False  # on a GPU: only operations that give the same bits every time
    compile: Literal["off", "auto"] = "off"  # auto: torch.compile, where a test at the start shows that it pays
    ema: float | None = None  # decay of a moving average of the weights, which takes their place; None: no average
    patience: int | None = None  # epochs without a better moving pseudo Dice after which a training ends
    curriculum: bool = False  # easy cases first
    freeze_encoder: int = 0  # epochs in which weights that the encoder was given stay as they are
    augmentation: PresetName = "nnunet"

    def __post_init__(self) -> None:
        for name in ("epochs", "iterations", "validation_iterations"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.seed < 0:
            raise UsageError(f"the seed must be 0 or more, not {self.seed}")
        if self.time_budget_s is not None and self.time_budget_s <= 0:
            raise UsageError(f"the time budget must be positive, not {self.time_budget_s:g} s")
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"the learning rate must be positive, not {self.learning_rate:g}")
        if not 0 <= self.warm_up < float("inf"):
            raise UsageError(f"the warm-up must be 0 or more (below 1 a share of the training), not {self.warm_up:g}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UsageError(
                f"the decay of an average of weights must lie between 0 and 1 (0.999, say), not {self.ema:g}"
            )
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"the patience must be at least 1 epoch, not {self.patience}")
        if self.freeze_encoder < 0:
            raise UsageError(f"the encoder can be frozen for 0 or more epochs, not {self.freeze_encoder}")
        Loss.named(self.loss)  # refuses one that there is not


def default_config(
    device: torch.device,
    *,
    epochs: int | None = None,
    iterations: int | None = None,
    time_budget_s: float | None = None,
    seed: int = 0,
) -> TrainConfig:
    """The settings for a device, with what the user asked for in their place."""
    config = TrainConfig(precision=best_precision(device), seed=seed)
    if device.type == "cpu":
        config = replace(
            config,
            epochs=cpu.EPOCHS,
            iterations=cpu.ITERATIONS,
            validation_iterations=cpu.ITERATIONS // 5,
            optimizer="adamw",
            learning_rate=CPU_LEARNING_RATE,
            weight_decay=CPU_WEIGHT_DECAY,
        )
    return with_length(config, epochs, iterations, time_budget_s)


def with_length(
    config: TrainConfig, epochs: int | None, iterations: int | None, time_budget_s: float | None
) -> TrainConfig:
    """The same training with another length; None leaves a part as it is, epochs take the place of a time budget."""
    if epochs is not None:
        config = replace(config, epochs=epochs, time_budget_s=None)
    if iterations is not None:
        config = replace(config, iterations=iterations, validation_iterations=max(1, iterations // 5))
    if time_budget_s is not None:
        config = replace(config, time_budget_s=time_budget_s)
    return config


def full_range_precision(device: torch.device) -> Precision:
    """The fastest arithmetic of the device with the range of float32, which does not overflow."""
    best = best_precision(device)
    return "fp32" if best == "fp16" else best


def best_precision(device: torch.device) -> Precision:
    """The fastest arithmetic that the device does natively and that trains as well as float32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16"
    return "fp32"

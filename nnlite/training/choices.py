"""What a user may choose of a training besides its length and seed, and the configuration with these choices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypedDict

from nnlite.training.augmentation.presets import PresetName
from nnlite.training.config import CPU_LEARNING_RATE, CPU_WEIGHT_DECAY, ScheduleName, TrainConfig
from nnlite.training.loss import Loss


class TrainChoices(TypedDict, total=False):
    """Fields of ``TrainConfig``; None, or nothing at all, is the default, or what a training was begun with.

    0 takes ``ema`` and ``patience`` back.
    """

    loss: str | None
    optimizer: Literal["sgd", "adamw"] | None
    learning_rate: float | None
    schedule: ScheduleName | None
    warm_up: float | None
    ema: float | None
    patience: int | None
    curriculum: bool | None
    freeze_encoder: int | None
    augmentation: PresetName | None
    deterministic: bool | None


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {name: getattr(TrainConfig(), name) for name in ("learning_rate", "weight_decay")},
    "adamw": {"learning_rate": CPU_LEARNING_RATE, "weight_decay": CPU_WEIGHT_DECAY},
}
"""What goes with an optimiser that is not the device's own."""

OFF = {"ema": 0, "patience": 0}  # what says None in a choice, where None itself says nothing


def with_choices(config: TrainConfig, choices: TrainChoices) -> TrainConfig:
    """The configuration with what was chosen; another optimiser brings its own learning rate and weight decay.

    A loss that is the same in other words is no choice: the words that are there stay.

    >>> with_choices(TrainConfig(), {"optimizer": "adamw", "schedule": "cosine"}).learning_rate
    0.003
    >>> with_choices(TrainConfig(), {"loss": "ce+dice"}) == TrainConfig()
    True
    >>> with_choices(TrainConfig(patience=30), {"patience": 0}).patience is None
    True
    """
    given: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
    chosen: dict[str, Any] = {name: None if value == OFF.get(name) else value for name, value in given.items()}
    if Loss.named(chosen.get("loss", config.loss)) == Loss.named(config.loss):
        chosen["loss"] = config.loss
    if chosen.get("optimizer", config.optimizer) != config.optimizer:
        chosen = OPTIMIZERS[chosen["optimizer"]] | chosen
    return replace(config, **chosen)

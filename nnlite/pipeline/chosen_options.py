"""The options of ``nnlite train`` that a begun training was given, as its config.json tells: for the rest of its round.

Read without torch, for commands that only tell how things are; so the defaults stand here a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULTS: dict[str, Any] = {
    "loss": "dice+ce",
    "schedule": "polynomial",
    "warm_up": 0.0,
    "ema": None,
    "patience": None,
    "curriculum": False,
    "freeze_encoder": 0,
    "augmentation": "nnunet",
    "deterministic": False,
}
OPTIMIZER = {"cpu": "adamw"}  # of a device; sgd for the others
LEARNING_RATE = {"adamw": 0.003, "sgd": 0.01}


def choice_options(job: Mapping[str, Any]) -> list[str]:
    """Words of a command line for what the content of a config.json differs in from the defaults.

    >>> train = {**DEFAULTS, "optimizer": "sgd", "learning_rate": 0.01, "loss": "focal+dice", "warm_up": 0.1}
    >>> choice_options({"device": "cpu", "train": train, "initial": None})
    ['--optimizer', 'sgd', '--loss', 'focal+dice', '--warm-up', '10%']
    """
    train, words = job["train"], []
    if train["optimizer"] != OPTIMIZER.get(job["device"], "sgd"):
        words += ["--optimizer", train["optimizer"]]
    if train["learning_rate"] != LEARNING_RATE[train["optimizer"]]:
        words += ["--learning-rate", as_typed("learning_rate", train["learning_rate"])]
    for name, default in DEFAULTS.items():
        if (value := train[name]) == default:
            continue
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [as_typed(name, value)])]
    if job["initial"]:
        words += ["--init-from", job["initial"]["model"]]
    return words


def as_typed(name: str, value: Any) -> str:
    """The value of a field as the command line takes it, with all its digits.

    >>> as_typed("warm_up", 0.1), as_typed("warm_up", 5.0), as_typed("loss", "dice")
    ('10%', '5', 'dice')
    """
    if name == "warm_up" and 0 < value < 1:
        return f"{100 * value:g}%"
    return str(value).removesuffix(".0")

"""The options of a begun training are those that give its configuration again."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from nnlite.pipeline.chosen_options import DEFAULTS, LEARNING_RATE, choice_options
from nnlite.pipeline.resume import FIXED
from nnlite.training.choices import OPTIMIZERS, TrainChoices
from nnlite.training.config import TrainConfig, default_config


def of(config: TrainConfig, device: str = "cpu", initial: dict[str, str] | None = None) -> list[str]:
    return choice_options({"device": device, "train": asdict(config), "initial": initial})


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_default_training_needs_none(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert of(default_config(torch.device(device)), device) == []
    assert {name: OPTIMIZERS[name]["learning_rate"] for name in OPTIMIZERS} == LEARNING_RATE


def test_every_choice_has_a_word() -> None:
    names = {*DEFAULTS, "optimizer", "learning_rate"}
    assert names == {*TrainChoices.__annotations__} == {*FIXED, "patience"} - {"seed"}  # a word of its own
    assert {name: getattr(TrainConfig(), name) for name in DEFAULTS} == DEFAULTS


def test_what_was_chosen_is_told() -> None:
    plain = default_config(torch.device("cpu"))
    chosen = replace(plain, learning_rate=1e-3, warm_up=5.0, ema=0.999, patience=30, curriculum=True)
    assert of(chosen) == [
        *("--learning-rate", "0.001", "--warm-up", "5", "--ema", "0.999", "--patience", "30", "--curriculum")
    ]
    assert of(replace(plain, learning_rate=0.00123456789)) == ["--learning-rate", "0.00123456789"]  # to be repeated
    frozen = replace(plain, freeze_encoder=3)
    begun = {"model": "m.nnlite", "source": "m.nnlite"}
    assert of(frozen, initial=begun) == ["--freeze-encoder", "3", "--init-from", "m.nnlite"]
    assert of(replace(plain, optimizer="sgd", learning_rate=0.01)) == ["--optimizer", "sgd"]


def test_the_model_is_told_as_it_was_named_and_not_the_file_of_one_of_its_folds() -> None:
    begun = {"model": "work/liver", "source": "work/liver/runs/3d/fold0/checkpoint_final.safetensors"}
    assert of(default_config(torch.device("cpu")), initial=begun) == ["--init-from", "work/liver"]

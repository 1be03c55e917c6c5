"""What a user asks for takes the place of a default, and nonsense is refused."""

from __future__ import annotations

import pytest
import torch

from nnlite.errors import UsageError
from nnlite.training.config import AUTOCAST, TrainConfig, best_precision, default_config, with_length

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"iterations": -2}, "iterations must be at least 1, not -2"),
        ({"validation_iterations": 0}, "validation_iterations must be at least 1"),
        ({"time_budget_s": 0}, "time budget must be positive, not 0 s"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"learning_rate": 0.0}, "learning rate must be positive, not 0"),
        ({"learning_rate": float("nan")}, "learning rate must be positive, not nan"),
        ({"warm_up": -1.0}, "warm-up must be 0 or more .*, not -1"),
        ({"ema": 1.0}, r"between 0 and 1 \(0.999, say\), not 1"),
        ({"patience": 0}, "patience must be at least 1 epoch, not 0"),
        ({"freeze_encoder": -1}, "frozen for 0 or more epochs, not -1"),
        ({"loss": "dyce"}, 'no loss "dyce"; .*dice, batch-dice'),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainConfig(**wrong)


def test_the_defaults_are_those_of_the_method() -> None:
    config = TrainConfig()
    assert (config.epochs, config.iterations, config.validation_iterations) == (1000, 250, 50)
    assert (config.optimizer, config.learning_rate, config.momentum, config.weight_decay) == ("sgd", 0.01, 0.99, 3e-5)
    assert (config.decay_exponent, config.gradient_norm) == (0.9, 12)


def test_what_the_user_asks_for_takes_the_place_of_the_default() -> None:
    config = default_config(CPU, epochs=7, iterations=20, seed=5)
    assert (config.epochs, config.iterations, config.validation_iterations, config.seed) == (7, 20, 4, 5)
    assert default_config(CPU, iterations=2).validation_iterations == 1
    assert default_config(CPU, time_budget_s=60).time_budget_s == 60


def test_a_cpu_has_shorter_epochs_than_a_gpu() -> None:
    assert default_config(CPU).iterations < TrainConfig().iterations


def test_a_length_given_later_leaves_the_rest_as_it_is() -> None:
    config = TrainConfig(time_budget_s=60, seed=3)
    assert with_length(config, None, None, None) == config
    assert with_length(config, 9, None, None) == TrainConfig(epochs=9, seed=3)  # epochs instead of a time budget


def test_the_precision_is_one_that_the_device_knows() -> None:
    with torch.autocast("cpu", dtype=AUTOCAST[best_precision(CPU)], enabled=True):
        out = torch.nn.Conv2d(1, 1, 3)(torch.randn(1, 1, 8, 8))
    assert out.isfinite().all()


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_trains_in_bfloat16_only_where_it_does_so_natively(
    native: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert default_config(CUDA).precision == precision


def test_a_cpu_without_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert best_precision(CPU) == "fp32"

"""What is chosen takes the place of a default; an optimiser brings what goes with it."""

from __future__ import annotations

import torch

from nnlite.training.choices import with_choices
from nnlite.training.config import TrainConfig, default_config


def test_nothing_chosen_changes_nothing() -> None:
    config = TrainConfig(seed=3, loss="focal+dice")
    assert with_choices(config, {}) == config
    assert with_choices(config, {"loss": None, "optimizer": None, "curriculum": None}) == config


def test_a_loss_in_another_order_is_no_choice() -> None:
    config = TrainConfig(loss="focal+dice")
    assert with_choices(config, {"loss": "dice + focal"}) == config
    assert with_choices(config, {"loss": "dice+0.5*focal"}).loss == "dice+0.5*focal"


def test_another_optimiser_brings_its_own_learning_rate_and_weight_decay() -> None:
    adamw = with_choices(TrainConfig(), {"optimizer": "adamw"})
    on_cpu = default_config(torch.device("cpu"))
    assert (adamw.learning_rate, adamw.weight_decay) == (on_cpu.learning_rate, on_cpu.weight_decay)
    sgd = with_choices(on_cpu, {"optimizer": "sgd", "learning_rate": 0.1})
    assert (sgd.learning_rate, sgd.weight_decay) == (0.1, TrainConfig().weight_decay)


def test_the_same_optimiser_leaves_the_learning_rate_as_it_was() -> None:
    begun = TrainConfig(learning_rate=0.5)
    assert with_choices(begun, {"optimizer": "sgd"}) == begun

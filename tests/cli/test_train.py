from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_pipeline import FakePipeline, nn, trained

from nnlite.training.initial_weights import InitialWeights


def test_train_passes_everything_on_and_trains_fold_by_fold(pipeline: FakePipeline):
    pipeline.answers["train"] = lambda dataset, configuration, folds, **options: (trained(folds[0]),)
    options = [
        "--time-budget",
        "30m",
        "--iterations",
        "20",
        "--seed",
        "7",
        "--deterministic",
        "--augmentation",
        "ct",
        "--resume",
        "--track",
        "tensorboard,mlflow",
        "--track",
        "wandb",
        "--device",
        "cpu",
        "--work",
        "w",
    ]
    shown = nn("train", "brain", "3d", "fold0", "fold3", *options)
    assert shown.exit_code == 0
    assert [call[1] for call in pipeline.calls] == [
        (Path("brain"), "3d", ("fold0",)),
        (Path("brain"), "3d", ("fold3",)),
    ]
    given = pipeline.calls[0][2]
    assert given | {"progress": None, "on_epoch": None, "on_init": None, "stop": None} == {
        "work": Path("w"),
        "epochs": None,
        "iterations": 20,
        "time_budget_s": 1800.0,
        "seed": 7,
        "deterministic": True,
        "augmentation": "ct",
        "resume": True,
        "track": ("tensorboard", "mlflow", "wandb"),
        "init_from": None,
        "device": "cpu",
        "progress": None,
        "on_epoch": None,
        "on_init": None,
        "stop": None,
    }
    assert "3d fold3: mean Dice 0.871 on the held-out cases, trained for 3 min 20 s -> work/brain/runs/3d/fold3" in (
        shown.stdout
    )


def test_a_training_tells_a_log_file_from_time_to_time_how_it_does(pipeline: FakePipeline):
    def train(*arguments: Any, on_epoch: Callable[[Any], None], **options: Any) -> tuple[SimpleNamespace]:
        for epoch in range(3):  # faster than a line every ten seconds: only the first is written
            on_epoch(
                SimpleNamespace(
                    epoch=epoch, epochs=3, train_loss=0.5, mean_pseudo_dice=None, data_wait_share=0.04, eta_s=200.0
                )
            )
        return (trained(mean_dice=None),)

    pipeline.answers["train"] = train
    shown = nn("train", "brain", "3d", "all")
    assert shown.stderr == ("3d all: epoch 1/3  loss 0.500  pseudo Dice -  waiting for data 4%  ETA 3 min 20 s\n")
    assert "no held-out cases to score" in shown.stdout


def test_a_fold_that_was_finished_before_is_said_to_be_left_alone(pipeline: FakePipeline):
    pipeline.answers["train"] = (trained(skipped=True),)
    shown = nn("train", "brain", "3d", "fold0")
    assert "finished before and left as it was -> work/brain/runs/3d/fold0" in shown.stdout


def test_a_whole_round_is_trained_fold_by_fold_and_resumed_folds_are_said_to_be(pipeline: FakePipeline):
    pipeline.answers["train"] = lambda dataset, configuration, folds, **options: (trained(folds[0], resumed=4),)
    shown = nn("train", "brain", "3d", "folds")
    assert [call[1][2] for call in pipeline.calls] == [("fold0",), ("fold1",)]
    assert all(call[2]["seed"] is None for call in pipeline.calls)
    assert shown.stdout.count("resumed after epoch 4 -> work/brain/runs/3d/fold") == 2


def thirty_weights() -> InitialWeights:
    """What a training that took 30 of 43 tensors tells."""
    names = tuple(f"heads.{number}.weight" for number in range(13))
    counts = {"tensors": 30, "all_tensors": 43, "parameters": 12_345, "all_parameters": 20_000}
    source = {"source": "m.nnlite", "dataset": "liver", "configuration": "3d", "fold": "fold0", "digest": "0"}
    return InitialWeights(**source, **counts, fresh=names, remark="fold0 saw them")


def test_init_from_is_passed_on_and_what_was_taken_is_shown(pipeline: FakePipeline) -> None:
    def train(
        *arguments: object, on_init: Callable[[InitialWeights], None], **options: object
    ) -> list[SimpleNamespace]:
        on_init(thirty_weights())
        return [trained()]

    pipeline.answers["train"] = train
    shown = nn("train", "brain", "3d", "fold0", "--init-from", "m.nnlite")
    assert pipeline.calls[-1][2]["init_from"] == Path("m.nnlite")
    first, second, *_ = shown.stdout.splitlines()
    assert first == "3d fold0 begins with weights of liver 3d fold0: 30 of 43 tensors, 12,345 of 20,000 parameters"
    assert second.startswith("freshly drawn: heads.0.weight, ")
    assert second.endswith("heads.11.weight and 1 more, listed in its config.json")
    assert "fold0 saw them" in shown.stderr


def test_what_folds_on_a_cluster_took_is_shown_too(pipeline: FakePipeline) -> None:
    def train_on_cluster(
        *arguments: object, on_init: Callable[[str, InitialWeights], None], **options: object
    ) -> list[SimpleNamespace]:
        on_init("fold1", thirty_weights())
        return [trained("fold0"), trained("fold1")]

    pipeline.answers["train_on_cluster"] = train_on_cluster
    shown = nn("train", "brain", "3d", "folds", "--init-from", "m.nnlite", "--cluster", "tcp://node:8786")
    assert shown.stdout.splitlines()[0].startswith("3d fold1 begins with weights of liver 3d fold0: 30 of 43 tensors")
    assert "fold0 saw them" in shown.stderr


def test_a_cluster_gets_all_folds_at_once(pipeline: FakePipeline):
    pipeline.answers["train_on_cluster"] = (trained("fold0"), trained("fold1"))
    shown = nn("train", "brain", "3d", "folds", "--cluster", "tcp://node:8786", "--epochs", "7", "--device", "cpu")
    assert shown.exit_code == 0
    [(_, arguments, given)] = pipeline.calls
    assert arguments == (Path("brain"), "3d", ("fold0", "fold1"))
    assert (given["cluster"], given["epochs"], given["device"]) == ("tcp://node:8786", 7, "cpu")
    assert [line.partition(":")[0] for line in shown.stdout.splitlines()] == ["3d fold0", "3d fold1"]


def test_choices_are_passed_on_and_nothing_of_what_was_not_chosen(pipeline: FakePipeline):
    pipeline.answers["train"] = (trained(),)
    chosen = {
        "loss": "focal+dice",
        "optimizer": "sgd",
        "learning_rate": 0.02,
        "schedule": "cosine",
        "warm_up": 0.1,
        "ema": 0.99,
        "patience": 30,
        "curriculum": True,
        "freeze_encoder": 5,
    }
    words = "--loss focal+dice --optimizer sgd --learning-rate 0.02 --schedule cosine --warm-up 10% --ema 0.99"
    nn("train", "brain", "3d", "fold0", *words.split(), "--patience", "30", "--curriculum", "--freeze-encoder", "5")
    nn("train", "brain", "3d", "fold0")
    first, second = (call[2] for call in pipeline.calls)
    assert {name: first[name] for name in chosen} == chosen
    assert not set(chosen) & set(second)


def test_what_other_folds_of_a_variant_have_is_taken_back_by_words(pipeline: FakePipeline):
    pipeline.answers["train"] = (trained(),)
    words = ("--no-curriculum", "--no-deterministic", "--ema", "0", "--patience", "0")
    assert nn("train", "brain", "3d@x", "fold1", *words).exit_code == 0
    back = {"curriculum": False, "deterministic": False, "ema": 0, "patience": 0}
    assert {name: pipeline.calls[0][2][name] for name in back} == back


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--schedule", "sine"), "polynomial, cosine, step, plateau, constant"),
        (("--optimizer", "adam"), "sgd, adamw"),
        (("--warm-up", "0.1"), "as 5, or a part of the training, as 10%"),
        (("--warm-up", "100%"), "as 5, or a part of the training, as 10%"),
    ],
)
def test_a_choice_that_there_is_not_is_refused_with_those_there_are(
    words: tuple[str, ...], told: str, pipeline: FakePipeline
):
    shown = nn("train", "brain", "3d", "fold0", *words)
    assert shown.exit_code != 0
    assert told in " ".join(shown.output.split())
    assert not pipeline.calls


def test_scores_of_single_objects_are_shown_where_there_are_any(pipeline: FakePipeline):
    told = SimpleNamespace(in_words=lambda: "AP 0.5 0.800 over 12 instances")
    result = SimpleNamespace(**{**vars(trained()), "instances": told})
    pipeline.answers["train"] = (result,)
    shown = nn("train", "cells", "2d", "fold0")
    assert "on the held-out cases (AP 0.5 0.800 over 12 instances), trained for" in shown.stdout

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fake_pipeline import FakePipeline, nn


def fold(number: int, state: str, **known: Any) -> SimpleNamespace:
    unknown = {"epoch": 0, "epochs": None, "training_s": 0.0, "eta_s": None, "mean_dice": None, "holder": None}
    return SimpleNamespace(**{**unknown, **known}, configuration="3d", fold=f"fold{number}", state=state)


def test_status_is_a_row_per_fold_and_the_command_to_type_next(pipeline: FakePipeline):
    pipeline.answers["status"] = SimpleNamespace(
        folds=(
            fold(0, "done", epoch=100, epochs=100, training_s=1800.0, mean_dice=0.8714),
            fold(1, "running", epoch=12, epochs=100, training_s=200.0, eta_s=1500.0, holder="process 7 on node17"),
            fold(2, "unfinished", epoch=3, epochs=100, training_s=50.0),
            fold(3, "missing"),
        ),
        notes=("the dataset has changed",),
        next_command=("nnlite", "train", "my brain", "3d", "fold2", "fold3"),
    )
    shown = nn("status", "my brain", "--work", "w")
    assert pipeline.calls == [("status", (Path("my brain"),), {"work": Path("w")})]
    header, *rows, holder, note, command = shown.stdout.splitlines()
    assert header.split() == ["config", "fold", "state", "epoch", "mean", "Dice", "training", "left"]
    assert [" ".join(row.split()) for row in rows] == [
        "3d fold0 done 100 0.871 30 min 00 s -",
        "3d fold1 running 12 of 100 - 3 min 20 s 25 min 00 s",
        "3d fold2 unfinished 3 of 100 - 50.0 s -",
        "3d fold3 missing - - - -",
    ]
    assert (holder, note) == ("3d fold1: process 7 on node17", "the dataset has changed")
    assert command == "next: nnlite train 'my brain' 3d fold2 fold3"


def test_where_all_that_is_missing_is_running_there_is_nothing_to_type(pipeline: FakePipeline):
    pipeline.answers["status"] = SimpleNamespace(folds=(), notes=(), next_command=None)
    assert nn("status", "brain").stdout.splitlines()[-1] == "next: wait for what is running"

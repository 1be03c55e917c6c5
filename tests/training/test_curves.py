"""The log is written line by line, cut back on resuming, and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nnlite.training.curves import EpochRecord, append_to_log, plot_course, read_log, truncate_log

FIRST = EpochRecord(
    epoch=0,
    epochs=3,
    learning_rate=0.01,
    train_loss=1.5,
    validation_loss=1.25,
    pseudo_dice=(0.5, None),
    mean_pseudo_dice=0.5,
    moving_pseudo_dice=0.5,
    duration_s=2.0,
    elapsed_s=2.0,
    data_wait_share=0.1,
    eta_s=4.0,
)
EPOCHS = [replace(FIRST, epoch=number) for number in range(3)]


def test_what_is_logged_is_read_back(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert read_log(log) == []
    for epoch in EPOCHS:
        append_to_log(log, epoch)
    assert read_log(log) == EPOCHS
    assert log.read_text().count("\n") == 3


def test_epochs_after_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "log.jsonl"
    truncate_log(log, 0)
    assert read_log(log) == []
    for epoch in EPOCHS:
        append_to_log(log, epoch)
    truncate_log(log, 2)
    assert read_log(log) == EPOCHS[:2]


def test_the_course_is_drawn_also_where_numbers_are_missing(tmp_path: Path) -> None:
    picture = tmp_path / "progress.png"
    blind = replace(FIRST, epoch=1, validation_loss=None, pseudo_dice=(None, None), moving_pseudo_dice=None)
    plot_course(picture, [FIRST, blind], labels=("liver", "lesion"), title="phantom 3d fold0")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["progress.png"]

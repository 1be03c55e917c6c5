"""The course of a training: one JSON line per epoch, and a picture of all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nnlite.data.records import record, write_text, written_whole


@record
class EpochRecord:
    """One line of log.jsonl. Losses are means over the epoch's iterations; lower is better, 0 is perfect.

    ``pseudo_dice`` has one number per foreground label, from patches of the validation cases; None where a label was in
    none of them. ``data_wait_share`` is the share of the epoch in which the device waited for patches. ``epochs`` is
    the planned number, under a time budget the number foreseen at this moment. ``skipped_steps`` were left out, for
    their loss or gradient was no number.
    """

    epoch: int
    epochs: int
    learning_rate: float
    train_loss: float
    validation_loss: float | None
    pseudo_dice: tuple[float | None, ...]
    mean_pseudo_dice: float | None
    moving_pseudo_dice: float | None
    duration_s: float
    elapsed_s: float
    data_wait_share: float
    eta_s: float
    skipped_steps: int = 0


def append_to_log(path: Path, epoch: EpochRecord) -> None:
    """Add one epoch to log.jsonl."""
    so_far = path.read_text(encoding="utf-8") if path.exists() else ""
    # written anew, a few hundred kB at most: a full disk must not leave half a line that a resumed training stumbles on
    write_text(path, so_far + json.dumps(asdict(epoch)) + "\n")


def read_log(path: Path) -> list[EpochRecord]:
    """All epochs of a log.jsonl; empty where there is none."""
    if not path.exists():
        return []
    epochs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        epochs.append(EpochRecord(**{**content, "pseudo_dice": tuple(content["pseudo_dice"])}))
    return epochs


def truncate_log(path: Path, epochs: int) -> None:
    """Keep the first ``epochs`` epochs: those after the checkpoint that training resumes from are run again."""
    kept = [epoch for epoch in read_log(path) if epoch.epoch < epochs]
    write_text(path, "".join(json.dumps(asdict(epoch)) + "\n" for epoch in kept))


def plot_course(path: Path, epochs: Sequence[EpochRecord], *, labels: Sequence[str], title: str) -> None:
    """Draw losses, pseudo Dice per label and learning rate against the epoch, as a PNG."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(9, 8), layout="constrained")
    loss, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    numbers = [epoch.epoch + 1 for epoch in epochs]
    loss.plot(numbers, [epoch.train_loss for epoch in epochs], label="training")
    loss.plot(numbers, [_number(epoch.validation_loss) for epoch in epochs], label="validation")
    loss.set_ylabel("loss")
    for index, label in enumerate(labels):
        dice.plot(numbers, [_number(epoch.pseudo_dice[index]) for epoch in epochs], alpha=0.6, label=label)
    dice.plot(numbers, [_number(epoch.moving_pseudo_dice) for epoch in epochs], color="black", label="moving mean")
    dice.set_ylabel("pseudo Dice of patches")
    dice.set_ylim(0, 1)
    rate.plot(numbers, [epoch.learning_rate for epoch in epochs], color="grey")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("epoch")
    for axes in (loss, dice):
        axes.legend(fontsize="small", ncols=2)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    with written_whole(path) as beside:
        figure.savefig(beside, dpi=110)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value

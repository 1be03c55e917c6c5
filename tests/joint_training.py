"""What processes do that train together, for the tests: in a module that a new process can import."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny import plan

from nnlite import pipeline
from nnlite.errors import StoppedError
from nnlite.networks.build import build_network
from nnlite.preprocessing.store import CaseStore
from nnlite.training.answer import Answer
from nnlite.training.batches import BatchSource
from nnlite.training.config import TrainConfig
from nnlite.training.learner import Learner
from nnlite.training.ranks import Ranks
from nnlite.training.train import TrainFiles, train

CPU = torch.device("cpu")
# SGD: where a gradient is next to nothing but rounding, AdamW makes a step of it as large as any
CONFIG = TrainConfig(epochs=2, iterations=4, validation_iterations=2, optimizer="sgd", learning_rate=0.01, seed=4)
LEARNING_RATE = 0.003  # of the steps whose losses are compared: the faster, the more a rounding grows from step to step
STEPS = {"batch dice": 20}  # as the promise says; for the others fewer tell as much
FEW_STEPS = 5
REGIONS = torch.tensor([[False, True, True], [False, False, True], [True, True, False]])  # as many as outputs
LOSSES: dict[str, dict[str, Any]] = {  # what makes a loss that is not a mean over samples, and more
    "samples": {"batch_dice": False},
    "batch dice": {"batch_dice": True},
    "ignored": {"batch_dice": True, "answer": Answer(ignore=2)},  # the core of the ball: not in every patch
    "regions": {"batch_dice": True, "answer": Answer(regions=REGIONS)},
    "ignored, samples": {"batch_dice": False, "answer": Answer(ignore=2)},
    "partly drawn": {"batch_dice": True, "cases": "partly"},  # of some samples, which not every process has
    "partly drawn, samples": {"batch_dice": False, "cases": "partly"},
    "partly drawn regions": {"batch_dice": True, "answer": Answer(regions=REGIONS), "cases": "partly"},
    "half precision": {"batch_dice": True, "precision": "bf16"},
    "top": {"batch_dice": True, "loss": "topk+dice"},
    "border": {"batch_dice": True, "loss": "border-weighted+generalised-dice", "answer": Answer(ignore=2)},
    "boundary": {"batch_dice": False, "loss": "boundary+tversky", "cases": "partly"},
    "dropout": {"batch_dice": True, "architecture": "unet-2015"},  # the same values of the same samples are dropped
}


def losses_of(case: str, ranks: Ranks, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of the first steps, each of a batch of three, and the weights after them."""
    options = dict(LOSSES[case])
    made = plan(architecture=options.pop("architecture", "unet"))
    torch.manual_seed(0)
    cases = CaseStore(folder / options.pop("cases", "cases"))
    config = replace(CONFIG, precision=options.pop("precision", "fp32"), loss=options.pop("loss", CONFIG.loss))
    network = build_network(made, made.configuration("3d"))
    learner = Learner(network, config, device=CPU, ranks=ranks, **options)
    opened = {case_id: cases.open(case_id) for case_id in cases.ids()}
    maps, learner.share_done = learner.loss.needs, 0.5
    batches = BatchSource(made, made.configuration("3d"), opened, opened, seed=4, device=CPU, ranks=ranks, maps=maps)
    steps = batches.training_batches(0, STEPS.get(case, FEW_STEPS))
    losses = [float(learner.step(batch, LEARNING_RATE, number=number)) for number, batch in enumerate(steps)]
    return losses, dict(network.state_dict())


def trained(ranks: Ranks, folder: Path, *, stop_after: int | None = None, **changes: Any) -> dict[str, torch.Tensor]:
    """A whole training by way of ``train``; its first process keeps it in the folder."""
    made, store = plan(), CaseStore(folder.parent / "cases")
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return stop_after is not None and not ranks.leads and asked > stop_after

    names = {"log": "log.jsonl", "plot": "p.png", "last": "last.pt", "previous": "prev.pt"}
    names |= {"best": "best.safetensors", "final": "final.safetensors"}
    files = TrainFiles(**{kind: folder / name for kind, name in names.items()})
    checkpoint = train(
        made,
        made.configuration("3d"),
        replace(CONFIG, **changes),
        fold="fold0",
        training_cases={case_id: store.open(case_id) for case_id in ("case_0", "case_1")},
        validation_cases={"case_2": store.open("case_2")},
        files=files if ranks.leads else None,
        device=CPU,
        ranks=ranks,
        resume=files.last.exists(),
        stop=stop,
    )
    return checkpoint.weights


def both_ways(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """All that the tests below look at, in one pair of processes: to start one takes seconds."""
    found: dict[str, Any] = {case: losses_of(case, ranks, folder) for case in LOSSES}
    found["whole"] = trained(ranks, folder / "together")
    try:
        trained(ranks, folder / "stopped", stop_after=3)
    except StoppedError as error:
        found["stopped"] = str(error)
    found["resumed"] = trained(ranks, folder / "stopped")
    found["chosen"] = trained(ranks, folder / "chosen", ema=0.9, patience=5, curriculum=True, schedule="plateau")
    found["hurried"] = trained(ranks, folder / "hurried", time_budget_s=1.5)
    found["told"] = ranks.tell(b"from the first" if ranks.leads else b"", patiently=True)
    return found


def one_falls(ranks: Ranks, folder: Path) -> None:
    """The second process fails at once, while the first trains."""
    if ranks.number == 1:
        raise ValueError("the disk of this one is full")
    losses_of("samples", ranks, folder)


def fold_together(ranks: Ranks, folder: Path) -> str:
    """A fold of the dataset that ``folder`` / "dataset.txt" names, by way of the pipeline."""
    work = folder / "work"
    if not ranks.leads:
        pipeline.follow(ranks, work=work if not (folder / "blind").exists() else folder / "elsewhere", device="cpu")
        return "followed"
    dataset = Path((folder / "dataset.txt").read_text())
    short = {"epochs": 2, "iterations": 10, "device": "cpu"}
    [result] = pipeline.train(dataset, "3d", ("fold0",), work=work, ranks=ranks, **short)
    return f"{result.epochs} epochs, Dice {result.mean_dice:.3f}"

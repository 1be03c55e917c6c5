"""``nnlite train``: train folds, predict and score what they hold out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnlite.cli import screen, torchrun, training_options
from nnlite.cli.arguments import (
    DEFAULT_WORK,
    Cluster,
    ConfigurationName,
    DatasetPath,
    Device,
    Verbose,
    Work,
    parse_duration,
    parse_folds,
)
from nnlite.cli.signals import stoppable
from nnlite.errors import UsageError

if TYPE_CHECKING:
    from nnlite.pipeline import TrainResult
    from nnlite.training.initial_weights import InitialWeights


LISTED_WEIGHTS = 12  # about three lines


def train(
    dataset: DatasetPath,
    configuration: ConfigurationName,
    folds: Annotated[
        list[str],
        typer.Argument(metavar="FOLD", parser=parse_folds, help="fold0, fold1, .., folds for each of them, or all."),
    ],
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of the training.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Training steps per epoch.")] = None,
    time_budget: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=parse_duration, help="Fit the training to 90s, 15m, 2h ... per fold."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed draws the same random numbers. \\[default: 0]")
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option(
            "--deterministic/--no-deterministic", help="The same bits every time on a GPU, too; slower there."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take another length for an unfinished training, or a longer one.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also tell tensorboard, mlflow or wandb of every epoch; may be repeated."),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Begin with the weights of a model file, an imported model or a run."),
    ] = None,
    augmentation: training_options.Augmentation = None,
    loss: training_options.Loss = None,
    optimizer: training_options.Optimizer = None,
    learning_rate: training_options.LearningRate = None,
    schedule: training_options.Schedule = None,
    warm_up: training_options.WarmUp = None,
    ema: training_options.Ema = None,
    patience: training_options.Patience = None,
    curriculum: training_options.Curriculum = None,
    freeze_encoder: training_options.FreezeEncoder = None,
    cluster: Cluster = "auto",
    device: Device = "auto",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Train one configuration on one or more folds; predict and score the held-out cases of each.

    A finished fold is left as it is, an unfinished one goes on where it stopped. SIGTERM and Ctrl-C finish the step and
    save. torchrun --nproc-per-node N -m nnlite train .. trains each fold on N processes.
    """
    if epochs is not None and time_budget is not None:
        raise UsageError("--epochs and --time-budget both set the length of the training; give one of them")
    trackers = tuple(name.strip() for names in track or () for name in names.split(","))
    from nnlite import pipeline

    options: dict[str, Any] = {
        "work": work,
        "epochs": epochs,
        "iterations": iterations,
        "time_budget_s": time_budget,
        "seed": seed,
        "resume": resume,
        "track": trackers,
        "init_from": init_from,
        "device": device,
    }
    choices = {
        "deterministic": deterministic,
        "augmentation": augmentation,
        "loss": loss,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warm_up": warm_up,
        "ema": ema,
        "patience": patience,
        "curriculum": curriculum,
        "freeze_encoder": freeze_encoder,
    }
    options |= {name: value for name, value in choices.items() if value is not None}
    if torchrun.place() is not None:
        if cluster not in ("auto", "none"):
            raise UsageError("torchrun trains a fold on several processes, --cluster several folds; use one of them")
        _train_together(dataset, configuration, folds, options)
        return
    names = pipeline.fold_names(dataset, folds, work=work)
    if address := pipeline.cluster_for(cluster, device, len(names)):
        _train_on_cluster(dataset, configuration, names, address, options)
        return
    _train_folds(dataset, configuration, names, options)


def _train_together(dataset: Path, configuration: str, folds: Sequence[str], options: dict[str, Any]) -> None:
    """Under torchrun: the first process trains as if it were alone, the others along with it."""
    from nnlite import pipeline

    with torchrun.together(options["device"]) as ranks:
        if ranks.leads:
            names = pipeline.fold_names(dataset, folds, work=options["work"])
            _train_folds(dataset, configuration, names, options | {"ranks": ranks}, impatient=False)
        else:
            with stoppable(impatient=False) as stop:
                pipeline.follow(ranks, work=options["work"], device=options["device"], stop=stop)


def _train_on_cluster(
    dataset: Path, configuration: str, folds: Sequence[str], address: str, options: dict[str, Any]
) -> None:
    """Train all folds at once, each on a worker, and show in the end how each ended."""
    from nnlite import pipeline

    with stoppable() as stop, screen.progress_bars() as progress:
        results = pipeline.train_on_cluster(
            dataset,
            configuration,
            folds,
            cluster=address,
            **options,
            on_init=lambda fold, initial: _show_init(f"{configuration} {fold}", initial),
            progress=progress,
            stop=stop,
        )
    _show_training(results)


def _train_folds(
    dataset: Path, configuration: str, folds: Sequence[str], options: dict[str, Any], *, impatient: bool = True
) -> None:
    """Train one fold after the other, and show how each ended."""
    from nnlite import pipeline

    for fold in folds:
        with stoppable(impatient=impatient) as stop, screen.progress_bars() as progress:
            on_epoch = partial(progress.epoch, f"{configuration} {fold}")
            results = pipeline.train(
                dataset,
                configuration,
                (fold,),
                **options,
                on_init=partial(_show_init, f"{configuration} {fold}"),
                progress=progress,
                on_epoch=on_epoch,
                stop=stop,
            )
        _show_training(results)


def _show_init(title: str, initial: InitialWeights) -> None:
    """Which weights a training begins with, and which are drawn."""
    screen.line(f"{title} begins with {initial.in_words()}")
    if initial.fresh:
        more = len(initial.fresh) - LISTED_WEIGHTS
        rest = f" and {more} more, listed in its config.json" if more > 0 else ""
        screen.line(f"freshly drawn: {', '.join(initial.fresh[:LISTED_WEIGHTS])}{rest}")
    if initial.remark:
        screen.warn(initial.remark)


def _show_training(results: Sequence[TrainResult]) -> None:
    """How each fold ended."""
    for result in results:
        score = (
            "no held-out cases to score"
            if result.mean_dice is None
            else f"mean Dice {screen.fraction(result.mean_dice)} on the held-out cases"
        )
        lasted = f"trained for {screen.words_for_seconds(result.training_s)}"
        before = ", finished before and left as it was" if result.skipped else ""
        resumed = f", resumed after epoch {result.resumed_epochs}" if result.resumed_epochs else ""
        if result.instances is not None:
            score += f" ({result.instances.in_words()})"
        screen.line(f"{result.configuration} {result.fold}: {score}, {lasted}{before}{resumed} -> {result.folder}")

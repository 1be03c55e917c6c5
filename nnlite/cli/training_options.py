"""Options of ``nnlite train`` that decide how a network learns, in a group of their own in its help."""

from __future__ import annotations

from typing import Annotated

import typer

from nnlite.cli.arguments import parse_augmentation, parse_optimizer, parse_schedule, parse_warm_up

HOW_IT_LEARNS = "How it learns"

Augmentation = Annotated[
    str | None,
    typer.Option(
        metavar="PRESET",
        parser=parse_augmentation,
        help="nnunet, ct, mr, microscopy or none. \\[default: nnunet]",
        rich_help_panel=HOW_IT_LEARNS,
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        metavar="TERM+TERM", help="A sum of terms, as focal+dice or 0.5*ce+dice.", rich_help_panel=HOW_IT_LEARNS
    ),
]
Optimizer = Annotated[
    str | None,
    typer.Option(
        metavar="sgd|adamw",
        parser=parse_optimizer,
        help="With its own learning rate. \\[default: sgd on a GPU, adamw on a CPU]",
        rich_help_panel=HOW_IT_LEARNS,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(help="At the start. \\[default: 0.01 for sgd, 0.003 for adamw]", rich_help_panel=HOW_IT_LEARNS),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=parse_schedule,
        help="How the rate falls: polynomial, cosine, step, plateau, constant.",
        rich_help_panel=HOW_IT_LEARNS,
    ),
]
WarmUp = Annotated[
    float | None,
    typer.Option(
        metavar="EPOCHS|SHARE%",
        parser=parse_warm_up,
        help="Let the rate rise at first, for 5 epochs or 10% of the training.",
        rich_help_panel=HOW_IT_LEARNS,
    ),
]
Ema = Annotated[
    float | None,
    typer.Option(
        metavar="DECAY", help="Keep a moving average of the weights, say with 0.999.", rich_help_panel=HOW_IT_LEARNS
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        metavar="EPOCHS",
        help="End when the pseudo Dice has not risen for so long. \\[default: never]",
        rich_help_panel=HOW_IT_LEARNS,
    ),
]
Curriculum = Annotated[
    bool | None,
    typer.Option("--curriculum/--no-curriculum", help="Begin with the easiest cases.", rich_help_panel=HOW_IT_LEARNS),
]
FreezeEncoder = Annotated[
    int | None,
    typer.Option(
        metavar="EPOCHS",
        help="With --init-from: leave the encoder as it is for so long.",
        rich_help_panel=HOW_IT_LEARNS,
    ),
]

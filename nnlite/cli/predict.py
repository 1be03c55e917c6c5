"""``nnlite predict`` and ``nnlite evaluate``: masks from images, scores from masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import DEFAULT_WORK, Device, Verbose, Work, parse_configuration, parse_fold

if TYPE_CHECKING:
    from nnlite.evaluation.scores import Scores
    from nnlite.pipeline import PredictResult


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A dataset with trained runs, or a run's folder.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Images, or folders of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder for the masks.")],
    folds: Annotated[
        str | None, typer.Option(metavar="FOLD,FOLD", help="Average these folds. [default: all that are trained]")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="CONFIG", parser=parse_configuration, help="Which trained configuration to use."),
    ] = None,
    mirroring: Annotated[
        bool, typer.Option("--mirroring/--no-mirroring", help="Average over mirrored images: slower, a little better.")
    ] = True,
    postprocessing: Annotated[
        bool, typer.Option("--postprocessing/--no-postprocessing", help="Apply the rules that nnlite select chose.")
    ] = True,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="For imported models: nnU-Net's arithmetic, bit by bit. Slower, more memory."),
    ] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Keep each label's probability, too.")] = False,
    device: Device = "auto",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Segment raw images; each mask has the geometry and the format of its image."""
    names = tuple(parse_fold(name) for name in folds.split(",")) if folds else ()
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        result = pipeline.predict(
            model,
            inputs,
            output,
            work=work,
            configuration=config,
            folds=names,
            mirroring=mirroring,
            exact=exact,
            device=device,
            probabilities=probabilities,
            postprocessing=postprocessing,
            progress=progress,
        )
    _show_prediction(result, output)


def evaluate(
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="True masks: a file or a folder.")],
    prediction: Annotated[Path, typer.Argument(metavar="PREDICTION", help="Predicted masks of the same names.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder for the scores as CSV and JSON.")
    ] = None,
    tolerance_mm: Annotated[
        float, typer.Option("--tolerance-mm", metavar="MM", help="How far off a surface may be, for the surface Dice.")
    ] = 2.0,
    verbose: Verbose = False,
) -> None:
    """Compare masks with the truth: overlap, distances of surfaces, lesions and volumes."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        scores = pipeline.evaluate(truth, prediction, output=output, tolerance_mm=tolerance_mm, progress=progress)
    _show_scores(scores, output)


def _show_prediction(result: PredictResult, output: Path) -> None:
    """How many masks were written, by what, how fast, and where."""
    if result.selection is not None:
        rules = ", ".join(rule.in_words() for rule in result.postprocessing.rules) or "none"
        screen.line(f"as selected in {result.selection}: {result.configuration}; postprocessing: {rules}")
    seconds = result.seconds_per_case
    mean = f", {screen.words_for_seconds(sum(seconds) / len(seconds))} per case" if seconds else ""
    masks = "1 mask" if len(result.masks) == 1 else f"{len(result.masks)} masks"
    screen.line(f"{result.configuration} {' + '.join(result.folds)}: {masks}{mean} -> {output}")


def _show_scores(result: Scores, output: Path | None) -> None:
    """Means over the cases, label by label, and over the labels; the files hold all other measures."""
    summary = result.summary()
    table = screen.table("label", "cases", "Dice", "median", "NSD", "HD95", "sens.", "prec.", "true ml", "error ml")
    for name, label in summary.labels.items():
        table.add_row(
            name,
            str(label.cases),
            *map(screen.fraction, (label.dice.mean, label.dice.median, label.nsd.mean)),
            _tenths(label.hd95_mm.mean),
            *map(screen.fraction, (label.sensitivity.mean, label.precision.mean)),
            _tenths(label.truth_ml.mean),
            _tenths(label.volume_error_ml.mean),
        )
    mean = summary.foreground
    table.add_row(
        *("mean of labels", str(summary.cases), screen.fraction(mean["dice"]), ""),
        *(screen.fraction(mean["nsd"]), _tenths(mean["hd95_mm"])),
        *(screen.fraction(mean[name]) for name in ("sensitivity", "precision")),
    )
    screen.console().print(table)
    screen.line(
        f"mean Dice {screen.fraction(result.mean_dice)} over {summary.cases} cases"
        + (f" -> {output}" if output else "")
    )


def _tenths(value: float | None) -> str:
    """Millimetres or millilitres; a dash where there is no number."""
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"

"""``nnlite predict`` and ``nnlite evaluate``: masks from images, scores from masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import (
    DEFAULT_WORK,
    Cluster,
    Device,
    ResampleChannelsTo,
    Verbose,
    Work,
    parse_configuration,
    parse_fold,
    parse_output_format,
)

if TYPE_CHECKING:
    from nnlite.evaluation.scores import Scores
    from nnlite.pipeline import PredictResult

LISTED_FINDINGS = 12  # about half a screen


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A dataset with trained runs, or a file of export.")],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Images, or folders of images or DICOM slices.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder for the masks.")],
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="FOLD,FOLD", help="Average these folds. \\[default: those of the selection, else all trained]"
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="CONFIG", parser=parse_configuration, help="Which trained configuration to use."),
    ] = None,
    mirroring: Annotated[
        bool, typer.Option("--mirroring/--no-mirroring", help="Average over mirrored images: slower, a little better.")
    ] = True,
    postprocessing: Annotated[
        bool,
        typer.Option("--postprocessing/--no-postprocessing", help="Apply the rules that were selected or imported."),
    ] = True,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="For imported models: nnU-Net's arithmetic, bit by bit. Slower, more memory."),
    ] = False,
    depth: Annotated[
        int | None, typer.Option(metavar="N", help="For unet++: answer at this depth, faster. \\[default: all of it]")
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Keep each label's probability, too.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Draw each mask on its image, as CASE.preview.png.")
    ] = False,
    entropy: Annotated[bool, typer.Option("--entropy", help="Keep a map of how undecided they are, too.")] = False,
    output_format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT", parser=parse_output_format, help="Of masks of DICOM images: nifti, dicom-seg, rtstruct."
        ),
    ] = "nifti",
    series: Annotated[
        str | None,
        typer.Option(metavar="SERIES", help="UID, number or description of a DICOM series. \\[default: the longest]"),
    ] = None,
    cluster: Cluster = "auto",
    resample_channels_to: ResampleChannelsTo = None,
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
            depth=depth,
            device=device,
            probabilities=probabilities,
            entropy=entropy,
            postprocessing=postprocessing,
            previews=preview,
            output_format=output_format,  # type: ignore[arg-type]  # its parser let only these through
            series=series,
            cluster=cluster,
            resample_channels_to=resample_channels_to,
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
    metrics: Annotated[
        str,
        typer.Option(metavar="KIND,KIND", help="What to compute; overlap and volumes, always there, take least time."),
    ] = "overlap,distances,lesions",
    instances: Annotated[
        bool, typer.Option("--instances", help="Score single objects, too: average precision, aggregated Jaccard.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Compare masks with the truth: overlap, distances of surfaces, lesions and volumes."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        scores = pipeline.evaluate(
            truth,
            prediction,
            output=output,
            tolerance_mm=tolerance_mm,
            metrics=metrics.split(","),
            progress=progress,
        )
        objects = (
            pipeline.evaluate_instances(truth, prediction, output=output, progress=progress) if instances else None
        )
    _show_scores(scores, output)
    if objects is not None:
        screen.line(f"instances: {objects.summary().in_words()}")


def _show_prediction(result: PredictResult, output: Path) -> None:
    """How many masks were written, by what, how fast, and where; and how far they can be trusted."""
    rules = ", ".join(result.postprocessing.in_words()) or "none"
    if result.selection is not None:
        screen.line(f"as selected in {result.selection}: {result.configuration}; postprocessing: {rules}")
    elif result.postprocessing.in_words():
        screen.line(f"postprocessing, as imported with the model: {rules}")
    _show_trust(result, output)
    seconds = result.seconds_per_case
    mean = f", {screen.words_for_seconds(sum(seconds) / len(seconds))} per case" if seconds else ""
    masks = "1 mask" if len(result.masks) == 1 else f"{len(result.masks)} masks"
    screen.line(f"{result.configuration} {' + '.join(result.folds)}: {masks}{mean} -> {output}")


def _show_trust(result: PredictResult, output: Path) -> None:
    """What is unusual about the images, and the Dice to expect, where that is known."""
    findings = [f"{one.case}: {finding.what}; {finding.remedy}" for one in result.records for finding in one.unusual]
    for finding in findings[:LISTED_FINDINGS]:
        screen.warn(finding)
    if len(findings) > LISTED_FINDINGS:
        screen.warn(f"{len(findings) - LISTED_FINDINGS} more such findings are in the files {output}/*.prediction.json")
    expected = [
        (label.expected_dice, f"{one.case} {name}")
        for one in result.records
        for name, label in one.labels.items()
        if label.expected_dice is not None
    ]
    if expected:
        lowest, where = min(expected)
        mean = sum(dice for dice, _ in expected) / len(expected)
        screen.line(f"expected Dice {mean:.3f}, lowest {lowest:.3f} ({where})")


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

"""``nnlite select``: from cross-validation to the model that predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import DEFAULT_WORK, DatasetPath, Device, Verbose, Work, parse_configuration

if TYPE_CHECKING:
    from nnlite.evaluation.choose_crf import CrfTrial
    from nnlite.evaluation.choose_rules import RuleTrial
    from nnlite.pipeline import SelectResult
    from nnlite.pipeline.selection import Selection


def select(
    dataset: DatasetPath,
    configurations: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG", parser=parse_configuration, help="Choose among these. \\[default: all finished]"
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", min=1, metavar="N", help="Try ensembles of up to N configurations.")
    ] = 2,
    crf: Annotated[
        bool, typer.Option("--crf", help="Try a dense CRF, too: all held-out cases are predicted again for it.")
    ] = False,
    device: Device = "auto",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Choose the configuration or ensemble that predicts, and the postprocessing, by the held-out cases."""
    from nnlite import pipeline

    with screen.progress_bars() as progress:
        result = pipeline.select(
            dataset, only=configurations or (), work=work, most=most, crf=crf, device=device, progress=progress
        )
    _show_selection(result)


def _show_selection(result: SelectResult) -> None:
    """What was compared, what was decided, and the numbers for both."""
    selection = result.selection
    for remark in (*(f"{name}: left out, {why}" for name, why in selection.left_out.items()), *selection.remarks):
        screen.warn(remark)
    screen.console().print(_candidates(selection))
    trials = screen.table("postprocessing", "Dice", "with it", "decision")
    for crf in selection.crf_trials:
        trials.add_row(crf.parameters.in_words(), *_decided(crf))
    for trial in selection.trials:
        trials.add_row(trial.rule.in_words(), *_decided(trial))
    screen.console().print(trials)
    if selection.reliability:
        screen.console().print(_reliability(selection))
    name = " + ".join(selection.members)
    after = f", {selection.mean_dice_postprocessed:.4f} postprocessed" if selection.postprocessing.in_words() else ""
    screen.line(
        f"{name}: mean Dice {selection.mean_dice:.4f}{after}, {selection.cases} held-out cases -> {result.path}"
    )


def _decided(trial: RuleTrial | CrfTrial) -> tuple[str, str, str]:
    """Dice without and with what was tried, and the decision."""
    decision = "accepted" if trial.accepted else trial.reason
    return f"{trial.mean_dice_before:.4f}", f"{trial.mean_dice_after:.4f}", decision


def _candidates(selection: Selection) -> screen.Table:
    table = screen.table("candidate", "Dice", "95 % interval", "difference", "95 % interval", "Wilcoxon p")
    for one in selection.candidates:
        chosen = one.members == selection.members
        table.add_row(
            " + ".join(one.members),
            f"{one.mean_dice:.4f}",
            screen.interval(one.mean_dice_interval, "{:.4f}"),
            "chosen" if chosen else f"{one.difference:+.4f}",
            "" if chosen else screen.interval(one.difference_interval, "{:+.4f}"),
            "" if one.wilcoxon_p is None else f"{one.wilcoxon_p:.2g}",
        )
    return table


def _reliability(selection: Selection) -> screen.Table:
    """How well the Dice of single predictions can be foretold."""
    table = screen.table("reliability", "cases", "rank correlation with Dice", "error", "error of always the mean")
    for name, one in selection.reliability.items():
        rank = "-" if one.spearman is None else f"{one.spearman:.2f}"
        table.add_row(name, str(one.cases), rank, f"{one.mean_absolute_error:.3f}", f"{one.error_of_the_mean:.3f}")
    return table

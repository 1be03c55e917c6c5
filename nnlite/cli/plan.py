"""``nnlite plan``: decide spacing, patch, batch and network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import DEFAULT_WORK, Device, Verbose, Work, parse_preset, parse_residual
from nnlite.errors import UsageError

if TYPE_CHECKING:
    from nnlite.pipeline import PlanResult
    from nnlite.pipeline.plan_request import Residual
    from nnlite.planning.gpu import Preset
    from nnlite.planning.planner import Plan


def plan(
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Folder of the dataset, or its list of cases.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option("--gpu-memory", metavar="GB", min=1.0, help="Memory to plan for. [default: this GPU's, else 8]"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", parser=parse_preset, help="nnunet: exactly as nnU-Net plans. [default: nnlite]"),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(metavar="M|L|XL", parser=parse_residual, help="A deep residual encoder instead of the plain one."),
    ] = None,
    from_plan: Annotated[
        Path | None, typer.Option("--from", metavar="OTHER_PLAN", help="Take all decisions from another plan.json.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="CONFIG.KEY=VALUE", help="Decide by hand, as 3d.patch_size=96,96,96."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print each decision with its numbers.")] = False,
    fingerprint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plan without a dataset from nnlite's or nnU-Net's fingerprint."),
    ] = None,
    labels: Annotated[
        int | None, typer.Option(metavar="N", help="With --fingerprint: number of labels, background included.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="With --fingerprint: the channels, as CT or T1,T2.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --fingerprint: the dataset. [default: the file's folder]")
    ] = None,
    device: Device = "auto",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Check a dataset, then decide spacing, patch, batch and network, each with its reason."""
    if (dataset is None) == (fingerprint is None):
        raise UsageError("plan a DATASET, or a finished fingerprint with --fingerprint FILE: one of the two")
    if fingerprint is None and (labels, channels, name) != (None, None, None):
        raise UsageError("--labels, --channels and --name belong to --fingerprint; a DATASET names its own")
    if fingerprint is not None and (labels is None or channels is None):
        raise UsageError(
            "--fingerprint needs --labels N (background included) and --channels NAME,NAME: it names neither"
        )
    from nnlite import pipeline

    options: dict[str, Any] = {
        "work": work,
        "device": device,
        "memory_gib": gpu_memory,
        "preset": cast("Preset | None", preset),
        "residual": cast("Residual | None", residual),
        "from_plan": from_plan,
        "overrides": overrides or (),
    }
    if fingerprint is not None and labels is not None and channels is not None:
        names = [channel.strip() for channel in channels.split(",")]
        result = pipeline.plan_fingerprint(fingerprint, labels=labels, channels=names, name=name, **options)
    else:
        assert dataset is not None
        with screen.progress_bars() as progress:
            result = pipeline.plan(dataset, progress=progress, **options)
    _show_plan(result)
    if explain:
        _show_reasons(result.plan)


def _show_plan(result: PlanResult) -> None:
    """The planned configurations, what to know about them, and where the plan lies."""
    planned = result.plan
    from nnlite.planning.cost import parameters, step_gib

    memory_column = ["GiB"] if planned.memory_gib is not None else []
    table = screen.table("config", "spacing (mm)", "patch", "batch", "width", "stages", "parameters", *memory_column)
    for configuration in planned.configurations.values():
        topology, gib = configuration.topology, step_gib(planned, configuration)
        table.add_row(
            configuration.name,
            _times(configuration.spacing_mm, ".2f"),
            _times(configuration.patch_size),
            str(configuration.batch_size),
            f"{topology.features[0]} to {max(topology.features)}",
            str(topology.stages),
            f"{parameters(planned, configuration) / 1e6:.2f} M",
            *([] if gib is None else [f"{gib:.1f}"]),
        )
    memory = f", {planned.memory_gib:g} GiB" if planned.memory_gib is not None else ""
    screen.line(f"{planned.dataset}: {planned.training_cases} cases, planned for {planned.device}{memory}")
    screen.console().print(table)
    for note in result.notes:
        screen.line(note)
    screen.line(f"plan, with the reason for each decision -> {result.path}")


def _times(values: Sequence[float], form: str = "") -> str:
    return "x".join(format(value, form) for value in values)


def _show_reasons(planned: Plan) -> None:
    """Every decision with its numbers, configuration by configuration."""
    from nnlite.planning.cost import step_gib, step_multiplications

    for what, why in planned.reasons.items():
        screen.line(f"{what}: {why}")
    for name, configuration in planned.configurations.items():
        screen.line(f"\n{name}")
        for what, why in configuration.reasons.items():
            screen.line(f"  {what}: {why}")
        gib = step_gib(planned, configuration)
        memory = "" if gib is None else f", about {gib:.1f} GiB by nnU-Net's estimate (not measured)"
        billions = step_multiplications(planned, configuration) / 1e9
        screen.line(f"  a training step: {billions:.3g} billion multiplications{memory}")
